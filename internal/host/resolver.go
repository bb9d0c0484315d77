package host

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/meshd/meshd/packaging"
)

const resolverFile = "/etc/systemd/resolved.conf.d/meshd.conf"

// InstallResolver has systemd-resolved ask the agent for names below .mesh. It
// gives false when systemd-resolved does not run here: then nothing is done.
func (h *Host) InstallResolver(ctx context.Context) (bool, error) {
	if _, err := h.Run(ctx, nil, "systemctl", "is-active", "systemd-resolved.service"); err != nil {
		return false, nil
	}
	changed, err := h.write(resolverFile, packaging.Resolved, 0o644)
	if err != nil {
		return false, fileError("write "+resolverFile, err)
	}
	if !changed {
		return true, nil
	}
	return true, h.restartResolver(ctx)
}

// RemoveResolver undoes InstallResolver.
func (h *Host) RemoveResolver(ctx context.Context) error {
	err := os.Remove(h.path(resolverFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fileError("remove "+resolverFile, err)
	}
	if _, err := h.Run(ctx, nil, "systemctl", "is-active", "systemd-resolved.service"); err != nil {
		return nil // it reads its files when it starts
	}
	return h.restartResolver(ctx)
}

func (h *Host) restartResolver(ctx context.Context) error {
	if _, err := h.Run(ctx, nil, "systemctl", "restart", "systemd-resolved.service"); err != nil {
		return &Error{"restart systemd-resolved", err,
			"restart it by hand: systemctl restart systemd-resolved; to leave the resolver alone, use --no-resolver"}
	}
	return nil
}
