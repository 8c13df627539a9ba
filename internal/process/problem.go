// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// again tells whether the same may go well a moment later.
func again(err error) bool {
	if errors.Is(err, errOver) {
		return false
	}
	return slices.Contains([]code.Code{
		"TS9605", "TS9614", // another traces it, or has its memory
		"TS9611",           // a thread did not stop in time
		"TS9615", "TS9618", // no thread to make system calls
		"TS9620", "TS9621", // a thread is in the way, or may be
		"TS9632", // the loader is at work
	}, code.Of(err))
}

// never tells a problem that the same process will always have. That it maps a file otherwise (TS9635) is none: the file may just be
// coming.
func never(c code.Code) bool {
	return slices.Contains([]code.Code{
		"TS9602", "TS9603", "TS9608", // kernel thread, 32-bit, static
		"TS9616", "TS9617", // no system call can be made in it
		"TS9633", "TS9634", "TS9636", "TS9643",
	}, c)
}

// unreadable tells an address that can't be read or written, which is no reason
// to give the process up.
func unreadable(err error) bool {
	_, ok := errors.AsType[*proc.AddressError](err)
	return ok && code.Of(err) == ""
}

// loadable tells a problem that a process may have just because not all that it
// needs was loaded.
func loadable(c code.Code) bool { return c == "TS9617" || c == "TS9634" }

// young tells whether a process has been started so lately that its loader may
// be at work.
func young(id proc.ID) bool {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return false
	}
	const perSecond = 100 // USER_HZ, in which /proc counts
	return time.Duration(now.Nano())-time.Duration(id.Start)*(time.Second/perSecond) < 5*time.Second
}
