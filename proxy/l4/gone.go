package l4

import (
	"errors"
	"syscall"
)

// isGone holds when the peer has closed already: there is nobody to tell.
func isGone(err error) bool {
	return errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
