package store

import "fmt"

// Spare says why a server cannot be done without, empty if it can: the voters
// that are left must be min at least, and so many of them well that one more may
// be lost; or, where that is not so even now, no fewer may be lost than now. A
// majority of them must be well in any case.
func (h ClusterHealth) Spare(id string, min int) string {
	before, after := h.without(""), h.without(id)
	voters, member := 0, false
	for _, s := range h.Servers {
		if s.ID == id {
			member = s.Voter
		} else if s.Voter {
			voters++
		}
	}
	switch {
	case !member:
		return ""
	case voters == 0:
		return "it is the last voter: without it there is no mesh"
	case after < 0:
		return fmt.Sprintf("of the %d voters that would be left too few are well to be a majority", voters)
	case after < before && after < 1:
		return fmt.Sprintf("the %d voters that would be left could not lose one more", voters)
	case voters < min:
		return fmt.Sprintf("%d voters would be left, and %d is the least", voters, min)
	}
	return ""
}

// without is how many voters other than one may still be lost, below 0 when they
// are no majority as it is.
func (h ClusterHealth) without(id string) int {
	voters, healthy := 0, 0
	for _, s := range h.Servers {
		if !s.Voter || s.ID == id {
			continue
		}
		voters++
		if s.Healthy {
			healthy++
		}
	}
	return healthy - (voters/2 + 1)
}
