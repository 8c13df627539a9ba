// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

// LockDir is where instances of Tsugi keep out of each other's way. Only root
// may write there: a lock that any user could take would let any user keep a
// process unpatched.
const LockDir = "/run/tsugi/processes"

// Lock is the right to change one process.
type Lock struct {
	file *os.File
}

// TakeLock takes the right to change a process, in dir ("" is LockDir), or tells
// by TS9609 that another has it. The kernel gives it back when its holder dies.
func TakeLock(dir string, id ID) (*Lock, error) {
	if dir == "" {
		dir = LockDir
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fmt.Sprintf("%d-%d", id.PID, id.Start))
	for range 100 {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, err
		}
		if _, err := retry(func() (int, error) { return 0, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, code.New("TS9609", id.String(), "")
			}
			return nil, err
		}
		// Its last holder may have removed the file between our open and flock.
		mine, err1 := f.Stat()
		there, err2 := os.Lstat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return &Lock{f}, nil
		}
		f.Close()
		if err2 != nil && !errors.Is(err2, os.ErrNotExist) {
			return nil, err2
		}
	}
	return nil, code.New("TS9609", id.String(), "")
}

// Release gives the right back.
func (l *Lock) Release() error {
	return errors.Join(os.Remove(l.file.Name()), l.file.Close())
}
