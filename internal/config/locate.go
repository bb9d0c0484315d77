package config

import (
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// locate finds what a path such as rules[1].split[0].to or
// subsets.v2["meta.version"] names below n. Where a part is absent, it is the
// last part that is there.
func locate(n ast.Node, path string) (line, column int) {
	line, column = start(n)
	for path != "" {
		var step string
		step, path = nextStep(path)
		key, value := child(n, step)
		if value == nil {
			return line, column
		}
		n = value
		line, column = start(value)
		if key != nil && isCollection(value) {
			line, column = start(key)
		}
	}
	return line, column
}

// nextStep takes the first step off a path. An index keeps its bracket, to be
// told from a key.
func nextStep(path string) (step, rest string) {
	path = strings.TrimPrefix(path, ".")
	if strings.HasPrefix(path, `["`) {
		if quoted, err := strconv.QuotedPrefix(path[1:]); err == nil {
			key, _ := strconv.Unquote(quoted)
			return key, strings.TrimPrefix(path[1+len(quoted):], "]")
		}
	}
	if strings.HasPrefix(path, "[") {
		index, rest, _ := strings.Cut(path, "]")
		return index, rest
	}
	if i := strings.IndexAny(path, ".["); i > 0 {
		return path[:i], path[i:]
	}
	return path, ""
}

// child gives what a step leads to, with the key for entries of a mapping.
func child(n ast.Node, step string) (key, value ast.Node) {
	if sequence, ok := n.(*ast.SequenceNode); ok {
		i, err := strconv.Atoi(strings.TrimPrefix(step, "["))
		if err != nil || i < 0 || i >= len(sequence.Values) {
			return nil, nil
		}
		return nil, sequence.Values[i]
	}
	entries, _ := pairs(n)
	for _, e := range entries {
		if name, ok := text(e.Key); ok && name == step {
			return e.Key, e.Value
		}
	}
	return nil, nil
}

func isCollection(n ast.Node) bool {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
		return true
	}
	return false
}
