package mesh

import (
	"fmt"
	"strconv"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// A path names a place in a resource or declaration as its YAML is written:
// rules[1].split[0].to, subsets.v2["meta.version"].
type path string

func (p path) field(name string) path {
	if p == "" {
		return path(name)
	}
	return p + "." + path(name)
}

func (p path) index(i int) path {
	return p + path("["+strconv.Itoa(i)+"]")
}

// key names an entry of a map.
func (p path) key(k string) path {
	if CheckName(k) == nil {
		return p.field(k)
	}
	return p + path("["+strconv.Quote(k)+"]")
}

// A checker collects the problems of one resource.
type checker struct {
	resource int32
	problems []*apiv1.Problem
}

// add notes what is wrong at p, and the way out.
func (c *checker) add(p path, fix, format string, args ...any) {
	c.problems = append(c.problems, &apiv1.Problem{
		Resource: c.resource,
		Path:     string(p),
		Message:  fmt.Sprintf(format, args...),
		Fix:      fix,
	})
}

// check notes err, if there is one.
func (c *checker) check(p path, fix string, err error) {
	if err != nil {
		c.add(p, fix, "%v", err)
	}
}

// name checks a DNS label.
func (c *checker) name(p path, s string) {
	c.check(p, "use 1 to 63 characters of a-z, 0-9 and, inside, -", CheckName(s))
}
