package rpc

import (
	"encoding/base64"
	"slices"
	"sort"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
)

const (
	defaultPage = 1_000
	maxPage     = 10_000
	// maxPageBytes ends a page early, so that no answer is too large to send.
	maxPageBytes = 8 << 20
	// maxKey bounds the key of a row; two names and what parts them.
	maxKey = 512
)

// page gives one page of rows, which are in the order of their keys: shown as
// show has them, without those for which it gives nil. next is empty at the end.
// Rows that are there all the time are seen once, however the listing changes
// between two pages.
func page[R any, M proto.Message](p *apiv1.Page, rows []R, key func(R) string, show func(R) M) (shown []M, next string, err error) {
	size, after, err := limits(p)
	if err != nil {
		return nil, "", err
	}
	if after != "" {
		rows = rows[sort.Search(len(rows), func(i int) bool { return key(rows[i]) > after }):]
	}
	bytes := 0
	for i, row := range rows {
		m := show(row)
		if !m.ProtoReflect().IsValid() {
			continue
		}
		bytes += proto.Size(m)
		if len(shown) == size || len(shown) > 0 && bytes > maxPageBytes {
			return shown, pageToken(key(rows[i-1])), nil
		}
		shown = append(shown, m)
	}
	return shown, "", nil
}

// limits gives how many rows a page may have, and the key that it begins after.
func limits(p *apiv1.Page) (size int, after string, err error) {
	size = int(p.GetSize())
	if size == 0 {
		size = defaultPage
	}
	if size > maxPage {
		return 0, "", status.Errorf(codes.InvalidArgument, "a page of %d is too large: %d is the most", size, maxPage)
	}
	after, err = parsePageToken(p.GetAfter())
	return size, after, err
}

// pagePrefix tells the tokens of this form from those of another one to come.
const pagePrefix = "p"

// pageToken is what a client gives back to have what comes after a key.
func pageToken(key string) string {
	return pagePrefix + base64.RawURLEncoding.EncodeToString([]byte(key))
}

func parsePageToken(token string) (key string, err error) {
	if token == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, pagePrefix))
	if err != nil || len(raw) == 0 || len(raw) > maxKey || pageToken(string(raw)) != token {
		return "", status.Error(codes.InvalidArgument, "after is not what a page before gave as next: begin anew without it")
	}
	return string(raw), nil
}

// byName puts rows in the order of their names; the state has them by their ids.
func byName[R interface{ GetName() string }](rows []R) []R {
	slices.SortFunc(rows, func(a, b R) int { return strings.Compare(a.GetName(), b.GetName()) })
	return rows
}
