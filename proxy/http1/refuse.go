package http1

import (
	"strconv"

	"github.com/meshd/meshd/proxy/observe"
)

// refuse answers in place of an application.
func (x *exchange) refuse(p *observe.Problem, keep bool) {
	x.record.Status, x.record.Code, x.record.Err = p.Code.Status, p.Code, orCode(p)
	x.keep = keep && x.keepsCaller()
	x.answered = true
	x.deadline = after(headTimeout)
	x.out = appendRefusal(x.out, p, string(x.request.Method) == "HEAD", x.keep, x.request.Minor() == 0)
	if err := x.flush(); err != nil {
		x.keep = false
	}
}

// appendRefusal appends a response that says what is wrong in one sentence, and
// names the code to look up.
func appendRefusal(dst []byte, p *observe.Problem, head, keep, old bool) []byte {
	text := sentence(p)
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(p.Code.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, reason(p.Code.Status)...)
	dst = append(dst, "\r\nmeshd-error: "...)
	dst = append(dst, p.Code.Name...)
	dst = append(dst, "\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: "...)
	dst = strconv.AppendInt(dst, int64(len(text)), 10)
	switch {
	case !keep:
		dst = append(dst, "\r\nconnection: close"...)
	case old:
		dst = append(dst, "\r\nconnection: keep-alive"...)
	}
	dst = append(dst, "\r\n\r\n"...)
	if head {
		return dst
	}
	return append(dst, text...)
}

// sentence tells callers what is wrong. Of what went wrong inside the mesh they
// learn the kind only.
func sentence(p *observe.Problem) string {
	s := p.Code.Sentence
	if p.Err != nil && p.Code.Status == 400 {
		return s[:len(s)-1] + ": " + p.Err.Error() + ".\n"
	}
	return s + "\n"
}

func reason(status int) string {
	switch status {
	case 400:
		return "Bad Request"
	case 403:
		return "Forbidden"
	case 408:
		return "Request Timeout"
	case 414:
		return "URI Too Long"
	case 417:
		return "Expectation Failed"
	case 431:
		return "Request Header Fields Too Large"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	case 505:
		return "HTTP Version Not Supported"
	}
	return ""
}
