// SPDX-License-Identifier: Apache-2.0

// Man writes the manual pages of the agent into a directory. The other programs
// do it themselves; the agent has no room for what it takes.
package main

import (
	"fmt"
	"os"

	"github.com/tsugi-project/tsugi/internal/agentcli"
	"github.com/tsugi-project/tsugi/internal/command/man"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: man DIR")
		os.Exit(2)
	}
	if err := man.Write(agentcli.Commands(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
