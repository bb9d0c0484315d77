package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
)

// CheckCalls reads the packages' files and finds calls that stay out of there.
func CheckCalls(packages []Package) ([]Violation, error) {
	var found []Violation
	for _, p := range packages {
		for _, name := range slices.Concat(p.Files, p.TestFiles) {
			test := slices.Contains(p.TestFiles, name)
			src, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				return nil, err
			}
			v, err := checkFile(p.Path, name, src, test)
			if err != nil {
				return nil, err
			}
			found = append(found, v...)
		}
	}
	return found, nil
}

// checkFile looks at one file of a package.
func checkFile(pkg, name string, src []byte, test bool) ([]Violation, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path.Join(pkg, name), src, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("reading the source: %w", err)
	}
	var found []Violation
	for _, s := range silences {
		if s.tests != test || !matchesAny(s.in, pkg) || matchesAny(s.except, pkg) || importsAny(file, s.unless) {
			continue
		}
		for _, use := range uses(file, s.pkg, s.functions) {
			found = append(found, Violation{files.Position(use.Pos()).String(),
				"uses " + s.pkg + "." + use.Sel.Name, s.reason})
		}
	}
	return found, nil
}

func importsAny(file *ast.File, paths []string) bool {
	return slices.ContainsFunc(paths, func(p string) bool { return importName(file, p) != "" })
}

// uses finds selectors such as time.Now, whatever name the file imports the
// package by.
func uses(file *ast.File, importPath string, functions []string) (found []*ast.SelectorExpr) {
	local := importName(file, importPath)
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if ok && local != "" && x.Name == local && slices.Contains(functions, sel.Sel.Name) {
			found = append(found, sel)
		}
		return true
	})
	return found
}

func importName(file *ast.File, importPath string) string {
	for _, spec := range file.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err != nil || p != importPath {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(importPath)
	}
	return ""
}
