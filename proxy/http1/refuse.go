package http1

import (
	"strconv"

	"github.com/meshd/meshd/proxy/observe"
)

// appendRefusal appends a response that says what is wrong in one sentence, and
// names the code to look up.
func appendRefusal(dst []byte, p *observe.Problem, head, keep, old bool) []byte {
	text := p.Sentence()
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

// reason is what stands behind a status that had none.
func reason(status int) string {
	switch status {
	case 200:
		return "OK"
	case 201:
		return "Created"
	case 204:
		return "No Content"
	case 304:
		return "Not Modified"
	case 400:
		return "Bad Request"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 408:
		return "Request Timeout"
	case 414:
		return "URI Too Long"
	case 417:
		return "Expectation Failed"
	case 431:
		return "Request Header Fields Too Large"
	case 500:
		return "Internal Server Error"
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
