// SPDX-License-Identifier: Apache-2.0

// Command init is process 1 in the virtual machines of this package's tests.
package main

import (
	"os"

	"github.com/tsugi-project/tsugi/test/guest/inside"
)

func main() {
	inside.Main()
	os.Exit(1)
}
