package rpc

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// Audit gives the records of changes, newest first.
func (s *admin) Audit(ctx context.Context, r *apiv1.AuditRequest) (*apiv1.AuditReply, error) {
	size, after, err := limits(r.GetPage())
	if err != nil {
		return nil, err
	}
	var before uint64
	if after != "" {
		if before, err = strconv.ParseUint(after, 16, 64); err != nil || before == 0 {
			return nil, status.Error(codes.InvalidArgument, "after is not what a page of the audit gave as next: begin anew without it")
		}
	}
	txn, err := s.replica.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	reply := &apiv1.AuditReply{}
	for _, record := range txn.Audit(nil, before, 0) {
		if !recordFits(record, r) {
			continue
		}
		if len(reply.Records) == size {
			last := reply.Records[size-1]
			reply.Next = pageToken(fmt.Sprintf("%x", last.Index))
			break
		}
		reply.Records = append(reply.Records, record)
	}
	return reply, nil
}

func recordFits(record *apiv1.AuditRecord, r *apiv1.AuditRequest) bool {
	at := record.TimeUnixNano / 1e9
	return fitsPattern(record.Actor, r.GetActor()) &&
		(r.GetAction() == "" || r.Action == record.Action) &&
		(r.GetObject() == "" || slices.ContainsFunc(record.Objects, func(o string) bool { return fitsPattern(o, r.Object) })) &&
		(r.GetSinceUnix() == 0 || at >= r.SinceUnix) &&
		(r.GetUntilUnix() == 0 || at < r.UntilUnix)
}

// fitsPattern reports whether s is what a pattern says, or begins with what is
// before its *. All fits no pattern.
func fitsPattern(s, pattern string) bool {
	prefix, open := strings.CutSuffix(pattern, "*")
	return pattern == "" || s == pattern || open && strings.HasPrefix(s, prefix)
}
