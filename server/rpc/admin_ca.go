package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// maxPEM bounds what is brought as an authority, in bytes.
const maxPEM = 64 << 10

// ShowAuthority tells of the certificates, never of the keys.
func (s *admin) ShowAuthority(ctx context.Context, _ *apiv1.ShowAuthorityRequest) (*apiv1.ShowAuthorityReply, error) {
	txn, err := s.replica.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	a := txn.Authority(nil)
	reply := &apiv1.ShowAuthorityReply{TrustDomain: a.GetTrustDomain(), Generation: a.GetGeneration()}
	if reply.Certificates, err = certificatesOf(a); err != nil {
		return nil, err
	}
	reply.Rotation = s.rotation(ctx, txn)
	return reply, nil
}

// rotation is how the one under way stands, nil when there is none.
func (s *admin) rotation(ctx context.Context, txn *state.Txn) *apiv1.RotationStatus {
	a := txn.Authority(nil)
	r := a.GetRotation()
	if r == nil {
		return nil
	}
	members := membersOf(txn)
	shown := &apiv1.RotationStatus{
		Phase: r.Phase, StartedUnix: r.StartedUnix, PhaseUnix: r.PhaseUnix, StartedBy: r.StartedBy,
		WaitingFor: ca.Waiting(a, members, s.Census(ctx), time.Now()),
	}
	if deadline := ca.Deadline(a, members.Mesh); !deadline.IsZero() {
		shown.DeadlineUnix = deadline.Unix()
	}
	return shown
}

func certificatesOf(a *apiv1.Authority) (list []*apiv1.CertificateInfo, err error) {
	for _, item := range ca.Inventory(a) {
		c, err := x509.ParseCertificate(item.Certificate)
		if err != nil {
			return nil, fmt.Errorf("reading the %s certificate: %w", item.Use, err)
		}
		sum, pin := sha256.Sum256(c.Raw), pki.Pin(c)
		list = append(list, &apiv1.CertificateInfo{
			Use: item.Use, Subject: c.Subject.String(), Serial: hex.EncodeToString(c.SerialNumber.Bytes()),
			NotBeforeUnix: c.NotBefore.Unix(), NotAfterUnix: c.NotAfter.Unix(),
			Fingerprint: hex.EncodeToString(sum[:]), Pin: hex.EncodeToString(pin[:]),
			KeyHeld: item.KeyHeld, Certificate: c.Raw,
		})
	}
	return list, nil
}

// RotateAuthority begins a rotation or, by force, ends the present phase of one.
func (s *admin) RotateAuthority(ctx context.Context, r *apiv1.RotateAuthorityRequest) (*apiv1.RotateAuthorityReply, error) {
	own, err := s.bundle(r)
	clear(r.KeyPem)
	if err != nil {
		return nil, err
	}
	txn, err := s.replica.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	change := s.begin
	switch {
	case r.GetForce():
		change = s.force
	case r.GetIssuingOnly():
		change = s.reissue
	}
	return change(ctx, txn, own)
}

// bundle reads what was brought, if anything was.
func (s *admin) bundle(r *apiv1.RotateAuthorityRequest) (*pki.Bundle, error) {
	brought := len(r.GetCertificatesPem())+len(r.GetKeyPem()) > 0
	switch {
	case !brought:
		return nil, nil
	case r.GetForce() || r.GetIssuingOnly():
		return nil, status.Error(codes.InvalidArgument, "certificates can be brought for a rotation only: leave the other options out")
	case len(r.CertificatesPem) > maxPEM || len(r.KeyPem) > maxPEM:
		return nil, status.Errorf(codes.InvalidArgument, "an authority's certificates and its key have at most %d bytes each", maxPEM)
	}
	own, err := pki.ParseBundle(r.CertificatesPem, r.KeyPem)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return own, nil
}

func (s *admin) begin(ctx context.Context, txn *state.Txn, own *pki.Bundle) (*apiv1.RotateAuthorityReply, error) {
	next, err := s.cfg.Vault.Rotate(txn.Authority(nil), own, callerOf(ctx).name, time.Now())
	if err != nil {
		return nil, changeRefused(err)
	}
	action := "ca rotate"
	if next.Rotation == nil {
		action = "ca rotate --issuing"
	}
	return s.changeAuthority(ctx, action, txn.Authority(nil), next, nil)
}

func (s *admin) reissue(ctx context.Context, txn *state.Txn, _ *pki.Bundle) (*apiv1.RotateAuthorityReply, error) {
	a := txn.Authority(nil)
	if a.Rotation != nil {
		return nil, changeRefused(ca.ErrRotating)
	}
	next, err := s.cfg.Vault.Reissue(a, time.Now())
	if err != nil {
		return nil, changeRefused(err)
	}
	return s.changeAuthority(ctx, "ca rotate --issuing", a, next, nil)
}

// force ends the present phase though some have not come along.
func (s *admin) force(ctx context.Context, txn *state.Txn, _ *pki.Bundle) (*apiv1.RotateAuthorityReply, error) {
	a := txn.Authority(nil)
	if a.Rotation == nil {
		return nil, status.Error(codes.FailedPrecondition, "no rotation of the root is under way: begin one with meshd ca rotate")
	}
	now := time.Now()
	missing := ca.Waiting(a, membersOf(txn), s.Census(ctx), now)
	return s.changeAuthority(ctx, "ca rotate --force", a, ca.Advance(a, now), missing)
}

func changeRefused(err error) error {
	code := codes.InvalidArgument
	if errors.Is(err, ca.ErrRotating) || errors.Is(err, ca.ErrNoParentKey) {
		code = codes.FailedPrecondition
	}
	return status.Error(code, err.Error())
}

// changeAuthority records the change by what it is and whom it leaves behind.
func (s *admin) changeAuthority(ctx context.Context, action string, from, to *apiv1.Authority, leftBehind []string) (*apiv1.RotateAuthorityReply, error) {
	objects := []string{"authority"}
	for _, name := range leftBehind {
		objects = append(objects, "without "+name)
	}
	change := &command.ChangeAuthority{Authority: to, FromIndex: from.GetModifyIndex()}
	if _, err := s.change(ctx, action, objects, change); err != nil {
		return nil, err
	}
	return &apiv1.RotateAuthorityReply{Rotation: s.rotation(ctx, s.replica.Local()), LeftBehind: leftBehind}, nil
}
