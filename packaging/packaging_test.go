package packaging

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func analyze(t *testing.T, args ...string) []byte {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed, so the units cannot be judged")
	}
	out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput()
	if bytes.Contains(out, []byte("unrecognized option")) {
		t.Skipf("systemd-analyze is older than version 250: %s", out)
	}
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// writeUnits writes the units with an executable that exists on any machine,
// because verify looks for it.
func writeUnits(t *testing.T) (server, agent string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, unit []byte) string {
		file := filepath.Join(t.TempDir(), name)
		unit = bytes.Replace(unit, []byte(Executable), []byte(self), 1)
		if err := os.WriteFile(file, unit, 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("meshd-server.service", ServerUnit), write("meshd-agent.service", AgentUnit)
}

func TestUnitsVerify(t *testing.T) {
	server, agent := writeUnits(t)
	out := analyze(t, "verify", "--man=no", server, agent)
	// verify also complains of the machine's own units; only ours count.
	for line := range strings.SplitSeq(string(out), "\n") {
		if strings.Contains(line, "meshd") {
			t.Error(line)
		}
	}
}

func TestUnitsExposure(t *testing.T) {
	server, agent := writeUnits(t)
	f := func(unit string, limit float64) {
		t.Helper()
		// The threshold is in tenths.
		analyze(t, "security", "--offline=true", "--no-pager", fmt.Sprintf("--threshold=%d", int(limit*10)), unit)
	}
	f(server, 2.0)
	f(agent, 2.5)
}

func TestUnitsShareTheRuntimeDirectory(t *testing.T) {
	for _, unit := range [][]byte{ServerUnit, AgentUnit} {
		for _, line := range []string{"RuntimeDirectory=meshd", "RuntimeDirectoryPreserve=yes", "LimitCORE=0", "User=meshd"} {
			if !bytes.Contains(unit, []byte("\n"+line+"\n")) {
				t.Errorf("%s is missing from\n%s", line, unit)
			}
		}
	}
}

func TestOnlyTheAgentHasACapability(t *testing.T) {
	f := func(unit []byte, want string) {
		t.Helper()
		for _, key := range []string{"CapabilityBoundingSet", "AmbientCapabilities"} {
			if line := key + "=" + want + "\n"; !bytes.Contains(unit, []byte("\n"+line)) {
				t.Errorf("no line %q", line)
			}
		}
	}
	f(ServerUnit, "")
	f(AgentUnit, "CAP_NET_BIND_SERVICE")
}
