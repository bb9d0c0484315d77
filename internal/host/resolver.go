package host

import (
	"context"

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
	if _, err := h.Run(ctx, nil, "systemctl", "restart", "systemd-resolved.service"); err != nil {
		return false, &Error{"restart systemd-resolved", err,
			"restart it by hand: systemctl restart systemd-resolved; to leave the resolver alone, use --no-resolver"}
	}
	return true, nil
}
