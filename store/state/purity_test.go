package state

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The same log must give the same state on every server, so nothing here may
// ask for the time, for chance or for anything outside.
func TestStateIsPure(t *testing.T) {
	imports := []string{"os", "math/rand", "math/rand/v2", "crypto/rand", "log/slog", "net/http", "runtime"}
	calls := []string{"time.Now", "time.Since", "time.Until", "time.After", "time.Sleep", "net.Dial", "net.Listen", "net.LookupHost"}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".pb.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range file.Imports {
			if slices.Contains(imports, strings.Trim(i.Path.Value, `"`)) {
				t.Errorf("%s imports %s", name, i.Path.Value)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && slices.Contains(calls, x.Name+"."+s.Sel.Name) {
					t.Errorf("%s calls %s.%s", name, x.Name, s.Sel.Name)
				}
			}
			return true
		})
	}
}
