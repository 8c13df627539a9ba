// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

// LockDir is where instances of Tsugi keep out of each other's way, unless they
// are told another place. Only root may write there: a lock that any user could
// take would let any user keep a process unpatched.
const LockDir = "/run/tsugi/processes"

// Lock is the right to change one process.
type Lock struct {
	file *os.File
	note string // what the file says
}

// maxNote bounds what a lock's file may say.
const maxNote = 256

// TakeLock takes the right to change a process, in the directory of locks, or tells
// by TS9609 that another has it. The kernel gives it back when its holder dies.
func TakeLock(dir string, id ID) (*Lock, error) {
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
			l := &Lock{file: f}
			return l, l.read(mine.Size())
		}
		f.Close()
		if err2 != nil && !errors.Is(err2, os.ErrNotExist) {
			return nil, err2
		}
	}
	return nil, code.New("TS9609", id.String(), "")
}

// Note keeps a few words with the lock, in the place of what was there. They stay
// when the holder dies, for the one who takes the lock next.
func (l *Lock) Note(words string) error {
	if words == l.note {
		return nil
	}
	// One write: there is either what was there before or all of it.
	if _, err := l.file.WriteAt([]byte(words+"\n"), 0); err != nil {
		return err
	}
	l.note = words
	return nil
}

// Left is what a holder noted who died, "" for nothing.
func (l *Lock) Left() string { return l.note }

// read reads what was left. What is longer than a note is none.
func (l *Lock) read(size int64) error {
	if size == 0 || size > maxNote {
		return nil
	}
	b := make([]byte, size)
	if _, err := l.file.ReadAt(b, 0); err != nil {
		return errors.Join(err, l.file.Close())
	}
	l.note, _, _ = strings.Cut(string(b), "\n")
	return nil
}

// Abandoned lists the processes whose locks say something. Of those the holder
// has died, or holds the lock still.
func Abandoned(dir string) []ID {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // nobody has been here
	}
	var ids []ID
	for _, e := range entries {
		var id ID
		if _, err := fmt.Sscanf(e.Name(), "%d-%d", &id.PID, &id.Start); err != nil {
			continue
		}
		if info, err := e.Info(); err == nil && info.Size() > 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// Release gives the right back.
func (l *Lock) Release() error {
	return errors.Join(os.Remove(l.file.Name()), l.file.Close())
}
