// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// commandsFile is the name of the recorded commands in a build's directory.
const commandsFile = "commands.json.gz"

// maxCommands bounds what is read of recorded commands: MariaDB's are 30 MiB.
const maxCommands = 1 << 30

func readCommands(path string) (*Commands, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, code.New("TS2315", path, "").With(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, code.New("TS2315", path, "").With(err)
	}
	var c Commands
	if err := json.NewDecoder(io.LimitReader(z, maxCommands)).Decode(&c); err != nil {
		return nil, code.New("TS2315", path, "").With(err)
	}
	return &c, nil
}

func writeCommands(path string, c *Commands) error {
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return kernel.DiskError(path, err)
	}
	defer f.Cleanup()
	z := gzip.NewWriter(f)
	if err := json.NewEncoder(z).Encode(c); err != nil {
		return kernel.DiskError(path, err)
	}
	if err := z.Close(); err != nil {
		return kernel.DiskError(path, err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return kernel.DiskError(path, fmt.Errorf("recorded commands: %w", err))
	}
	return nil
}
