// SPDX-License-Identifier: Apache-2.0

// Command machine is process 1 in the virtual machines of the fleet's tests.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/vm/guest"
)

func main() {
	guest.Main(map[string]guest.Verb{"follow": follow})
	os.Exit(1)
}

// follow tells every line that is appended to a file from now on as a note,
// the moment it is there. The file may be made, or replaced, later; its
// directory has to be there.
func follow(_ context.Context, env *guest.Env, args json.RawMessage) (any, error) {
	var path string
	if err := json.Unmarshal(args, &path); err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_MODIFY|unix.IN_MOVED_TO|unix.IN_CREATE); err != nil {
		return nil, err
	}
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	go func() {
		seen := len(before)
		buf := make([]byte, 4096)
		for {
			if _, err := unix.Read(fd, buf); err != nil && !errors.Is(err, unix.EINTR) {
				env.Note("follow: " + err.Error())
				return
			}
			b, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			if len(b) < seen {
				seen = 0
			}
			for {
				line, _, whole := bytes.Cut(b[seen:], []byte("\n"))
				if !whole {
					break
				}
				seen += len(line) + 1
				env.Note(filepath.Base(path) + ": " + string(line))
			}
		}
	}()
	return nil, nil
}
