// Package docs runs what the documentation shows.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// A Block is a fenced piece of a page.
type Block struct {
	Page string // file name
	Line int    // of its first line of content
	// Kind is the fence's first two words, such as "yaml resources".
	Kind string
	File string // of file=NAME on the fence
	Text string
}

// A Command is a line that a reader is to type, on a host.
type Command struct {
	Page string
	Line int
	Host string // vm1, vm2, ...
	Text string
}

func (c Command) String() string { return fmt.Sprintf("%s:%d: %s# %s", c.Page, c.Line, c.Host, c.Text) }

// Pages lists the documentation for users below root, with the README.
func Pages(root string) ([]string, error) {
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	return append([]string{filepath.Join(root, "README.md")}, pages...), err
}

// Read takes a page apart.
func Read(path string) (blocks []Block, commands []Command, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	page := filepath.Base(path)
	var open *Block
	for i, line := range strings.Split(string(data), "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case open != nil && isFence:
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.Text += line + "\n"
		case isFence:
			open = newBlock(page, i+2, fence)
		default:
			if c, ok := command(page, i+1, line); ok {
				commands = append(commands, c)
			}
		}
	}
	if open != nil {
		return nil, nil, fmt.Errorf("%s:%d: the block has no end", page, open.Line)
	}
	return blocks, commands, nil
}

func newBlock(page string, line int, fence string) *Block {
	b := &Block{Page: page, Line: line}
	var kind []string
	for _, word := range strings.Fields(fence) {
		if name, ok := strings.CutPrefix(word, "file="); ok {
			b.File = name
		} else {
			kind = append(kind, word)
		}
	}
	b.Kind = strings.Join(kind, " ")
	return b
}

var prompt = regexp.MustCompile(`^    (vm[0-9])# (.*)$`)

// command reads a line such as "    vm1# meshd status    # what it shows".
func command(page string, line int, text string) (Command, bool) {
	m := prompt.FindStringSubmatch(text)
	if m == nil {
		return Command{}, false
	}
	text, _, _ = strings.Cut(m[2], "  # ")
	return Command{page, line, m[1], strings.TrimSpace(text)}, true
}

// Typed lists the commands of a console block: its lines that begin with "$ ".
func (b Block) Typed() (lines []string) {
	for line := range strings.SplitSeq(b.Text, "\n") {
		if text, ok := strings.CutPrefix(line, "$ "); ok {
			lines = append(lines, text)
		}
	}
	return lines
}
