package host

import (
	"context"

	"github.com/meshd/meshd/packaging"
)

// EnsureUser creates the user and the group meshd where they are missing.
func (h *Host) EnsureUser(ctx context.Context) error {
	if _, _, err := h.LookupUser(User); err == nil {
		return nil
	}
	err := h.createUser(ctx)
	if err == nil {
		_, _, err = h.LookupUser(User)
	}
	if err != nil {
		return &Error{"create the user " + User, err,
			"create it by hand: useradd --system --user-group --home-dir " + StateDir + " --no-create-home --shell /usr/sbin/nologin " + User}
	}
	return nil
}

func (h *Host) createUser(ctx context.Context) error {
	if _, err := h.LookPath("systemd-sysusers"); err == nil {
		_, err := h.Run(ctx, packaging.Sysusers, "systemd-sysusers", "-")
		return err
	}
	_, err := h.Run(ctx, nil, "useradd", "--system", "--user-group", "--home-dir", StateDir,
		"--no-create-home", "--shell", "/usr/sbin/nologin", User)
	return err
}
