package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// Check holds packages against the tables of this package.
func Check(packages []Package) []Violation {
	var found []Violation
	for _, check := range []func([]Package) []Violation{
		checkDocs, checkLayers, checkEngines, checkSteps, checkParents, checkHelpers, checkBans, checkHomes,
	} {
		found = append(found, check(packages)...)
	}
	return found
}

func checkDocs(packages []Package) (found []Violation) {
	for _, p := range packages {
		if len(p.Files) > 0 && p.Doc == "" {
			found = append(found, Violation{p.Path, "has no package comment",
				"a package earns its place by a sentence that no other package's sentence covers"})
		}
	}
	return found
}

// eachEdge calls f for every import, outside of tests, of one package of this
// module by another.
func eachEdge(packages []Package, f func(from, to string)) {
	own := byPath(packages)
	for _, p := range packages {
		for _, to := range p.Imports {
			if _, ok := own[to]; ok {
				f(p.Path, to)
			}
		}
	}
}

func byPath(packages []Package) map[string]Package {
	m := map[string]Package{}
	for _, p := range packages {
		m[p.Path] = p
	}
	return m
}

func layerOf(path string) int {
	return slices.IndexFunc(layers, func(l layer) bool { return matchesAny(l.packages, path) })
}

func checkLayers(packages []Package) (found []Violation) {
	for _, p := range packages {
		if layerOf(p.Path) < 0 {
			found = append(found, Violation{p.Path, "is in no layer", "give the package a place in internal/archtest/table.go"})
		}
	}
	eachEdge(packages, func(from, to string) {
		if f, t := layerOf(from), layerOf(to); f >= 0 && f < t {
			found = append(found, Violation{from, "imports " + to,
				fmt.Sprintf("%s may not depend on %s", layers[f].name, layers[t].name)})
		}
	})
	return found
}

func checkEngines(packages []Package) (found []Violation) {
	engineOf := func(path string) int {
		return slices.IndexFunc(engines, func(e string) bool { return matches(e, path) })
	}
	eachEdge(packages, func(from, to string) {
		if f, t := engineOf(from), engineOf(to); f >= 0 && t >= 0 && f != t {
			found = append(found, Violation{from, "imports " + to,
				"engines never import each other; what joins them belongs to an assembly"})
		}
	})
	return found
}

func checkSteps(packages []Package) (found []Violation) {
	stepOf := func(path string) int {
		return slices.IndexFunc(steps, func(s []string) bool { return slices.Contains(s, path) })
	}
	for _, p := range packages {
		if matches("proxy/...", p.Path) && stepOf(p.Path) < 0 && !isHelper(p.Path) {
			found = append(found, Violation{p.Path, "is at no step of the proxy", "give the package a place in internal/archtest/table.go"})
		}
	}
	eachEdge(packages, func(from, to string) {
		if f, t := stepOf(from), stepOf(to); f >= 0 && t >= f {
			found = append(found, Violation{from, "imports " + to,
				"within the proxy imports run plan, exchange, deciders, pool, dispatch, engines, proxy, and never sideways"})
		}
	})
	return found
}

func checkParents(packages []Package) (found []Violation) {
	eachEdge(packages, func(from, to string) {
		if matchesAny(partOf, from) && strings.HasPrefix(from, to+"/") {
			found = append(found, Violation{from, "imports " + to,
				"a package below another is a part of it and cannot depend on the whole"})
		}
	})
	return found
}

// isHelper tells packages that help tests: like net/http/httptest, they are
// called after what they help to test.
func isHelper(p string) bool {
	return strings.HasSuffix(p, "test") || matches("test/...", p)
}

func checkHelpers(packages []Package) (found []Violation) {
	for _, p := range packages {
		for _, to := range p.Imports {
			if !isHelper(p.Path) && (isHelper(to) || matches("testing/...", to)) {
				found = append(found, Violation{p.Path, "imports " + to, "test helpers stay out of the binary"})
			}
		}
	}
	return found
}

func checkBans(packages []Package) (found []Violation) {
	own := byPath(packages)
	for _, b := range bans {
		for _, p := range packages {
			if !matchesAny(b.from, p.Path) {
				continue
			}
			if chain := findImport(own, p.Path, b, map[string]bool{}); chain != nil {
				found = append(found, Violation{p.Path, "imports " + strings.Join(chain, ", which imports "), b.reason})
			}
		}
	}
	return found
}

// findImport gives the chain of imports from path to something banned.
func findImport(own map[string]Package, path string, b ban, seen map[string]bool) []string {
	seen[path] = true
	for _, to := range own[path].Imports {
		if matchesAny(b.to, to) {
			return []string{to}
		}
		if _, ok := own[to]; !ok || !b.reach || seen[to] {
			continue
		}
		if chain := findImport(own, to, b, seen); chain != nil {
			return append([]string{to}, chain...)
		}
	}
	return nil
}

func checkHomes(packages []Package) (found []Violation) {
	own := byPath(packages)
	for _, p := range packages {
		for _, to := range p.Imports {
			if _, ok := own[to]; ok || isStandard(to) {
				continue
			}
			if v, bad := checkHome(p.Path, to, isHelper(p.Path)); bad {
				found = append(found, v)
			}
		}
		for _, to := range p.TestImports {
			if _, ok := own[to]; ok || isStandard(to) {
				continue
			}
			if v, bad := checkHome(p.Path, to, true); bad {
				found = append(found, v)
			}
		}
	}
	return found
}

// checkHome looks at one import of a third-party package. Tests may use any
// library that has a home, to check ours against it.
func checkHome(from, to string, test bool) (Violation, bool) {
	i := slices.IndexFunc(homes, func(h home) bool { return to == h.module || strings.HasPrefix(to, h.module+"/") })
	if i < 0 {
		return Violation{from, "imports " + to, "the library has no home: think twice, then give it one in internal/archtest/table.go"}, true
	}
	if test || matchesAny(homes[i].packages, from) {
		return Violation{}, false
	}
	return Violation{from, "imports " + to, homes[i].reason}, true
}

// isStandard tells the standard library by its paths, whose first element has
// no dot.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}
