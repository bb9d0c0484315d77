package local

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// FromCommandLine is the source of services that were declared through the
// agent's socket; the source of others is their file.
const FromCommandLine = "cli"

// merge brings together what all sources declare. An id that is declared twice
// is taken from a file rather than from the command line, and from the first
// file; so is a port of the same service, by which callers tell instances apart.
func (l *Local) merge() (services []*Service, problems []string) {
	byID, byPort := map[string]*Service{}, map[string]*Service{}
	take := func(source string, d *apiv1.Declaration) {
		port := fmt.Sprintf("%s:%d", d.GetName(), d.GetPort())
		if first, taken := byID[d.GetId()]; taken {
			problems = append(problems, fmt.Sprintf("service %s is declared by %s and by %s, and the first counts; remove one, or give one an id of its own", d.GetId(), first.Source, source))
			return
		}
		if first, taken := byPort[port]; taken {
			problems = append(problems, fmt.Sprintf("service %s of %s has the name and port of %s, and is left out; remove one of them", d.GetId(), source, first.Declaration.GetId()))
			return
		}
		s := &Service{Declaration: d, Source: source}
		byID[d.GetId()], byPort[port] = s, s
	}
	problems = append(problems, l.files.each(take)...)
	problems = append(problems, l.declared.each(func(_ string, d *apiv1.Declaration) { take(FromCommandLine, d) })...)
	services = slices.Collect(maps.Values(byID))
	slices.SortFunc(services, func(a, b *Service) int { return cmp.Compare(a.Declaration.GetId(), b.Declaration.GetId()) })
	return services, problems
}

// each hands over all that a folder declares, file by file in the order of their
// names, and returns its problems.
func (f *folder) each(take func(path string, d *apiv1.Declaration)) (problems []string) {
	if f.problem != "" {
		problems = append(problems, f.problem)
	}
	for _, path := range slices.Sorted(maps.Keys(f.files)) {
		file := f.files[path]
		if file.problem != "" {
			problems = append(problems, file.problem)
		}
		for _, d := range file.declarations {
			take(path, d)
		}
	}
	return problems
}
