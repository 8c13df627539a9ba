// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"os/exec"
	"strings"
)

// GoesDown reports whether the service manager is shutting the machine down:
// for power off, reboot, halt or kexec. Where there is none it is not known.
func GoesDown(ctx context.Context) bool {
	program, err := tool("systemctl")
	if err != nil {
		return false
	}
	return goesDown(ctx, program)
}

func goesDown(ctx context.Context, program string) bool {
	cmd := exec.CommandContext(ctx, program, "is-system-running")
	cmd.Env = []string{"LC_ALL=C"}
	out, _ := cmd.Output() // it fails for each state that is not "running", this one too
	return strings.TrimSpace(string(out)) == "stopping"
}
