// Package archtest holds the module's architecture by test: which way imports
// run, where each third-party library lives, and which calls stay out of where.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

const module = "github.com/meshd/meshd"

// A Package is what the rules need to know of one package. Paths of this module
// are relative to it: "store/state", and "." for the root.
type Package struct {
	Path        string
	Doc         string // first sentence of the package comment
	Imports     []string
	TestImports []string
	Dir         string
	Files       []string // without tests
	TestFiles   []string
}

// A Violation is one place that breaks one rule.
type Violation struct {
	Where  string // a package, or file:line:column
	What   string
	Reason string // why the rule is there
}

func (v Violation) String() string { return v.Where + " " + v.What + ": " + v.Reason }

// Load reads the packages of the module that dir belongs to.
func Load(dir string) ([]Package, error) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Doc,Imports,TestImports,XTestImports,GoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("listing the packages of %s: %w: %s", dir, err, stderr.String())
	}
	return decode(out)
}

type listed struct {
	ImportPath, Dir, Doc               string
	Imports, TestImports, XTestImports []string
	GoFiles, TestGoFiles, XTestGoFiles []string
}

func decode(list []byte) ([]Package, error) {
	var packages []Package
	d := json.NewDecoder(bytes.NewReader(list))
	for {
		var l listed
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading what go list printed: %w", err)
		}
		packages = append(packages, Package{
			Path:        relative(l.ImportPath),
			Doc:         l.Doc,
			Imports:     relativeAll(l.Imports),
			TestImports: relativeAll(append(l.TestImports, l.XTestImports...)),
			Dir:         l.Dir,
			Files:       l.GoFiles,
			TestFiles:   append(l.TestGoFiles, l.XTestGoFiles...),
		})
	}
}

func relative(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func relativeAll(paths []string) []string {
	var out []string
	for _, p := range paths {
		out = append(out, relative(p))
	}
	return out
}

// matches reports whether path is meant by pattern: itself, or with a final
// /... all below it too. A lone ... means every package.
func matches(pattern, path string) bool {
	if pattern == "..." {
		return true
	}
	root, below := strings.CutSuffix(pattern, "/...")
	return path == root || below && strings.HasPrefix(path, root+"/")
}

func matchesAny(patterns []string, path string) bool {
	for _, p := range patterns {
		if matches(p, path) {
			return true
		}
	}
	return false
}
