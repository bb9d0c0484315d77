// Package config reads and writes meshd's YAML: strictly, and with every mistake
// shown where it stands.
package config

import (
	"fmt"
	"strings"
	"unicode"
)

// A Position is a place in a file; lines and columns count from 1, columns in
// characters.
type Position struct {
	File         string
	Line, Column int
}

func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// A Problem is one mistake in a file.
type Problem struct {
	Position
	Message string // what is wrong
	Fix     string // the way out
	Source  string // the line, empty when it has none
}

// Error gives the problem with its line and a caret below the place.
func (p Problem) Error() string {
	var b strings.Builder
	if at := p.Position.String(); at != "" {
		b.WriteString(at + ": ")
	}
	b.WriteString(p.Message)
	if p.Source != "" {
		line, caret := excerpt(p.Source, p.Column)
		fmt.Fprintf(&b, "\n    %s\n    %s^", line, caret)
	}
	if p.Fix != "" {
		fmt.Fprintf(&b, "\n  %s", p.Fix)
	}
	return b.String()
}

// Problems are all mistakes found in a file. It is an error for errors.As.
type Problems []Problem

// Error gives all problems, in the order of the file.
func (p Problems) Error() string {
	texts := make([]string, len(p))
	for i, problem := range p {
		texts[i] = problem.Error()
	}
	return strings.Join(texts, "\n")
}

// excerptWidth is how much of a long line is shown.
const excerptWidth = 100

// excerpt gives what to show of a line, and the white space that puts a caret
// below its column.
func excerpt(line string, column int) (shown, indent string) {
	chars := []rune(line)
	at := min(max(column-1, 0), len(chars))
	from := 0
	if at > excerptWidth-20 {
		from = at - 20
	}
	to := min(len(chars), from+excerptWidth)
	return string(chars[from:to]), blank(chars[from:at])
}

// blank keeps tabs, which are as wide below as above.
func blank(chars []rune) string {
	var b strings.Builder
	for _, c := range chars {
		if c != '\t' {
			c = ' '
		}
		b.WriteRune(c)
	}
	return b.String()
}

// A source is a file's text, to show lines of.
type source struct {
	file  string
	lines []string
}

func newSource(file string, data []byte) *source {
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	return &source{file, strings.Split(strings.Map(printable, text), "\n")}
}

// printable keeps what a file holds from acting on the terminal that it is
// shown on.
func printable(c rune) rune {
	if c == '\n' || c == '\t' || unicode.IsPrint(c) {
		return c
	}
	return unicode.ReplacementChar
}

// problem makes a problem of what is wrong at a line and column.
func (s *source) problem(line, column int, fix, message string) Problem {
	p := Problem{Position: Position{s.file, line, column}, Message: message, Fix: fix}
	if line >= 1 && line <= len(s.lines) {
		p.Source = strings.TrimRight(s.lines[line-1], " \t\r")
	}
	return p
}
