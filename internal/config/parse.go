package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	maxSize     = 1 << 20
	maxDepth    = 32
	maxEntries  = 2000 // of one mapping or list that has a line for each
	maxProblems = 20
)

// ReadFile reads a file of at most 1 MiB; "-" is standard input.
func ReadFile(path string) ([]byte, error) {
	if path == "-" {
		return readAll(path, os.Stdin)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(path, f)
}

func readAll(path string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(data) > maxSize {
		return nil, Problems{tooBig(path)}
	}
	return data, nil
}

func tooBig(file string) Problem {
	return Problem{Position: Position{File: file}, Message: "the file is larger than 1 MiB", Fix: "split it into several"}
}

// parse gives the documents of a file that are not empty.
func parse(file string, data []byte) (*source, []ast.Node, error) {
	if len(data) > maxSize {
		return nil, nil, Problems{tooBig(file)}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	src := newSource(file, data)
	if p, bad := src.badCharacter(data); bad {
		return nil, nil, Problems{p}
	}
	docs, err := parseYAML(src, string(data))
	if err != nil {
		return nil, nil, err
	}
	return src, docs, nil
}

// badCharacter finds what YAML forbids, invalid UTF-8 included.
func (s *source) badCharacter(data []byte) (Problem, bool) {
	line, column := 1, 0
	for len(data) > 0 {
		c, size := utf8.DecodeRune(data)
		data = data[size:]
		column++
		switch {
		case c == '\n':
			line, column = line+1, 0
		case c == utf8.RuneError && size == 1:
			return s.problem(line, column, "save the file as UTF-8", "a byte here is not UTF-8"), true
		case c < ' ' && c != '\t' && c != '\r', c >= 0x7f && c <= 0x9f:
			return s.problem(line, column, "remove it", fmt.Sprintf("the control character %U stands here", c)), true
		}
	}
	return Problem{}, false
}

func parseYAML(src *source, text string) (docs []ast.Node, err error) {
	// A parser that stumbles over a file must not take an agent with it.
	defer func() {
		if r := recover(); r != nil {
			docs, err = nil, Problems{src.problem(1, 1, "check its syntax", "the file cannot be read as YAML")}
		}
	}()
	tokens := lexer.Tokenize(text)
	if p, bad := src.badToken(tokens); bad {
		return nil, Problems{p}
	}
	// Duplicate keys are left to the decoder, which goes on to the next mistake.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, Problems{src.syntaxProblem(err)}
	}
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			docs = append(docs, doc.Body)
		}
	}
	return docs, nil
}

func (s *source) syntaxProblem(err error) Problem {
	fix := `check the indentation, and put quotes around a value that holds ": ", " #" or begins with a special character`
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) && syntax.Token != nil && syntax.Token.Position != nil {
		at := syntax.Token.Position
		if strings.Contains(syntax.Message, "\t") || strings.Contains(syntax.Message, "tab") {
			fix = "indent with spaces: YAML takes no tabs"
		}
		return s.problem(at.Line, at.Column, fix, "YAML syntax: "+strings.ReplaceAll(syntax.Message, "\t", `\t`))
	}
	return s.problem(1, 1, fix, "the file cannot be read as YAML")
}

// badToken finds the parts of YAML that meshd's files do without, and nesting
// deeper and collections longer than any file needs: the parser recurses, and takes
// quadratic time, over both.
func (s *source) badToken(tokens token.Tokens) (Problem, bool) {
	var shape nesting
	for _, t := range tokens {
		if message, fix := unwanted(t); message != "" {
			return s.problem(t.Position.Line, t.Position.Column, fix, message), true
		}
		depth, entries := shape.add(t)
		if depth > maxDepth {
			return s.problem(t.Position.Line, t.Position.Column, "check the brackets and the indentation",
				fmt.Sprintf("the file is nested more than %d levels deep", maxDepth)), true
		}
		if entries > maxEntries {
			return s.problem(t.Position.Line, t.Position.Column, "split the file up, or check the indentation",
				fmt.Sprintf("there are more than %d entries on one level", maxEntries)), true
		}
	}
	return Problem{}, false
}

func unwanted(t *token.Token) (message, fix string) {
	switch t.Type {
	case token.AnchorType, token.AliasType, token.MergeKeyType:
		return "YAML anchors, aliases and merge keys are not taken", "write the value out, or put a value that begins with & or * in quotes"
	case token.TagType:
		return "YAML tags are not taken", "leave the tag out, or put a value that begins with ! in quotes"
	case token.DirectiveType:
		return "YAML directives are not taken", "leave the line out"
	case token.MappingKeyType:
		return "keys that begin with ? are not taken", "write the key plainly, as in key: value"
	}
	return "", ""
}

// nesting counts how deep a file goes, by brackets, indentation and dashes on one
// line, and how many entries there are on a level.
type nesting struct {
	flow, dashes, line int
	levels             []level
}

// A level is an indentation that encloses the present line.
type level struct{ column, entries int }

// add gives the depth at t and the entries on its level so far.
func (n *nesting) add(t *token.Token) (depth, entries int) {
	if t.Position.Line != n.line {
		n.line, n.dashes = t.Position.Line, 0
		n.indent(t)
	}
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		n.flow++
	case token.SequenceEndType, token.MappingEndType:
		n.flow--
	case token.SequenceEntryType:
		n.dashes++
	}
	return max(n.flow, 0) + n.dashes + len(n.levels), n.levels[len(n.levels)-1].entries
}

// indent moves to the level of a line that begins with t.
func (n *nesting) indent(t *token.Token) {
	column := t.Position.Column
	for len(n.levels) > 0 && n.levels[len(n.levels)-1].column > column {
		n.levels = n.levels[:len(n.levels)-1]
	}
	if len(n.levels) == 0 || n.levels[len(n.levels)-1].column < column {
		n.levels = append(n.levels, level{column: column})
	}
	switch {
	case t.Type == token.DocumentHeaderType:
		n.levels[0].entries = 0
	case n.flow <= 0:
		n.levels[len(n.levels)-1].entries++
	}
}
