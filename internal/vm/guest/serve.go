// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// serve takes steps from the host until it says that this is the end. A line
// that is no step is said and skipped.
func (e *Env) serve(ctx context.Context, verbs map[string]Verb) error {
	fd, err := unix.Open(e.port.Name(), unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: e.port.Name(), Err: err}
	}
	in := os.NewFile(uintptr(fd), e.port.Name())
	defer in.Close()
	e.Note(wire.ReadyForSteps)
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return errors.New("the host has closed the port that steps come by")
		}
		if err != nil {
			return err
		}
		s, err := wire.ParseStep(bytes.TrimSpace(line))
		switch {
		case err != nil:
			e.Note(fmt.Sprintf("%v: %q", err, line))
		case s.Do == wire.EndVerb:
			return nil
		default:
			e.step(ctx, verbs, s)
		}
	}
}
