// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/kload"
)

// listenEvery is how often the kernel's log is read while a live patch is
// watched.
const listenEvery = 500 * time.Millisecond

// Complaint listens to the kernel's log until ctx ends, from what it has said
// since the load on. For a module that is no live patch, what names a function
// of it counts, and nothing else.
func (k Kernel) Complaint(ctx context.Context, since time.Time, module string, _ []string) (string, error) {
	patches, err := k.Loader.Loaded()
	if err != nil && code.Of(err) != "TS9202" {
		return "", err
	}
	log, err := k.Loader.KlogFromStart()
	if err != nil {
		return "", err
	}
	defer log.Close()
	from := sinceBoot(since)
	if !slices.ContainsFunc(patches, func(p hostinfo.Livepatch) bool { return p.Name == module }) {
		patches = []hostinfo.Livepatch{{Name: module}}
	}
	health := kload.NewHealth(patches)
	tick := time.NewTicker(listenEvery)
	defer tick.Stop()
	for {
		records, err := log.Read()
		for _, r := range records {
			if r.Time >= from {
				health.Add(r)
			}
		}
		// Also of a report whose end is still to come.
		if t, ok := health.Ours(); ok {
			return fmt.Sprintf("%s (in %s)", t.Text, t.Function), nil
		}
		switch {
		case ctx.Err() != nil:
			return "", nil
		case err != nil:
			return "", err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// sinceBoot is a time of the recent past on the clock of the kernel's log,
// which does not run while the machine sleeps.
func sinceBoot(t time.Time) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano()) - time.Since(t)
}
