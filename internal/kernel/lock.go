// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

// lock takes the exclusive lock of something in the store. The kernel drops
// it when the process ends, however it ends. With wait it waits for another
// holder, else a held lock is TS2314.
func (s *Store) lock(ctx context.Context, what string, wait bool) (unlock func(), err error) {
	return Lock(ctx, filepath.Join(s.locks(), FileName(what)), what, wait)
}

// Lock takes the exclusive lock of a lock file, which is created and never
// removed: removing it would let two holders lock two files of one name.
func Lock(ctx context.Context, path, what string, wait bool) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, DiskError(path, err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, err
		}
		if !wait {
			f.Close()
			return nil, code.New("TS2314", what, "")
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, Interrupted(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// diskUsage adds up the blocks of a directory's files; a file with several
// names counts once.
func diskUsage(dir string) (int64, error) {
	var sum int64
	seen := make(map[uint64]bool)
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok || seen[sys.Ino] {
			return nil
		}
		if sys.Nlink > 1 && !st.IsDir() {
			seen[sys.Ino] = true
		}
		sum += sys.Blocks * 512
		return nil
	})
	return sum, err
}
