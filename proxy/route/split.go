package route

import "github.com/meshd/meshd/proxy/plan"

// A Split chooses among shares in proportion to their weights.
type Split struct {
	ends  []uint64 // of each share, in a row
	total uint64
}

// NewSplit compiles the shares of a target.
func NewSplit(shares []plan.Split) Split {
	s := Split{ends: make([]uint64, len(shares))}
	for i := range shares {
		s.total += uint64(shares[i].Weight)
		s.ends[i] = s.total
	}
	return s
}

// Choose returns the index of a share, given an equally distributed random
// number, or -1 if no share has a weight.
func (s Split) Choose(random uint64) int {
	if s.total == 0 {
		return -1
	}
	if len(s.ends) == 1 {
		return 0
	}
	at := random % s.total
	for i, end := range s.ends {
		if at < end {
			return i
		}
	}
	return -1
}
