// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Disk is where the agent keeps what must survive a loss of power. Names are
// slash paths below the state directory. A write that returned without an
// error is on the medium, its directory entry too.
type Disk interface {
	ReadFile(name string) ([]byte, error)
	// WriteFile replaces a file: after a crash it is the old one or the new one.
	WriteFile(name string, b []byte) error
	// WriteAt cuts a file to off bytes and appends b. After a crash any part of
	// b may be there.
	WriteAt(name string, off int64, b []byte) error
	Remove(name string) error
	List(dir string) ([]string, error) // names of files, in order; nil without the directory
	Free() (int64, error)              // bytes
}

// dirDisk is a directory of a real file system.
type dirDisk struct{ dir string }

// OpenDisk makes the state directory if need be. It is for root alone.
func OpenDisk(dir string) (Disk, error) {
	for _, d := range []string{dir, filepath.Join(dir, patchDir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, diskProblem(d, err)
		}
	}
	return dirDisk{dir}, nil
}

func (d dirDisk) path(name string) string { return filepath.Join(d.dir, filepath.FromSlash(name)) }

func (d dirDisk) ReadFile(name string) ([]byte, error) { return os.ReadFile(d.path(name)) }

func (d dirDisk) WriteFile(name string, b []byte) error {
	path := d.path(name)
	// The temporary file is renamed over the old one after its fsync.
	if err := renameio.WriteFile(path, b, 0o600, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return diskProblem(path, err)
	}
	return diskProblem(path, syncDir(filepath.Dir(path)))
}

func (d dirDisk) WriteAt(name string, off int64, b []byte) error {
	path := d.path(name)
	_, err := os.Lstat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return diskProblem(path, err)
	}
	err = func() error {
		if err := f.Truncate(off); err != nil {
			return err
		}
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		return f.Sync()
	}()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && fresh {
		err = syncDir(filepath.Dir(path))
	}
	return diskProblem(path, err)
}

func (d dirDisk) Remove(name string) error {
	path := d.path(name)
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return diskProblem(path, err)
}

func (d dirDisk) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(d.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, diskProblem(d.path(dir), err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d dirDisk) Free() (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(d.dir, &s); err != nil {
		return 0, diskProblem(d.dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// diskProblem says what a person can do about an error of the file system.
func diskProblem(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return code.New("TS9103", path, "").With(err)
	case errors.Is(err, syscall.EROFS):
		return code.New("TS9402", path, "the file system is read-only").With(err)
	}
	return code.New("TS9402", path, "").With(err)
}
