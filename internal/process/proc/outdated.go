// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Replaced is what became of a file that a process has loaded.
type Replaced struct {
	Object Object
	// Now is the build-id of the file that has the path now, as the process
	// sees it: "" where there is none, or it can't be told.
	Now string
	// Gone: nothing has the path now. The package was removed, perhaps.
	Gone bool
}

// Outdated tells which of the objects have been replaced on the disk, as a
// package's upgrade does: the process must be restarted to get the new ones.
// Objects that never had a lasting name (memfd, deleted after loading in a
// directory for such things) are left out, and so is what has come back with
// the same build-id.
//
// It looks at the process's own files by path, which nothing else here does:
// what comes out is for people.
func (p *Process) Outdated(ctx context.Context, objects []Object) ([]Replaced, error) {
	var all []Replaced
	for _, o := range objects {
		if !o.Deleted || !lasting(o.Path) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return all, p.looked(err, false)
		}
		r, err := bounded(ctx, &fileSilence, p.id, p.uid, func() (Replaced, error) {
			now, gone, err := p.onDisk(o.Path)
			return Replaced{Object: o, Now: now, Gone: gone}, err
		})
		if err != nil {
			return all, p.looked(err, false)
		}
		if r.Now == "" || r.Now != o.BuildID {
			all = append(all, r)
		}
	}
	return all, nil
}

// lasting tells whether a path is one that packages install to.
func lasting(path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	for _, dir := range []string{"/memfd:", "/dev/", "/SYSV", "/tmp/", "/var/tmp/", "/run/", "/proc/", "/i915", "/drm", "/anon_hugepage"} {
		if strings.HasPrefix(path, dir) {
			return false
		}
	}
	return true
}

// beneath is a path as a process sees it whose root, as we see it, is that: the
// kernel tells both by our own root.
func beneath(root, path string) (string, bool) {
	if root == "/" {
		return path, true
	}
	below, ok := strings.CutPrefix(path, root)
	return below, ok && strings.HasPrefix(below, "/")
}

// onDisk reads the build-id of the file at path below the process's root. The
// path is walked inside of that root, without leaving it by links.
func (p *Process) onDisk(path string) (buildID string, gone bool, err error) {
	err = p.withDir(func(dir int) error {
		// The root link is the kernel's own, and leads into the process's mount namespace.
		root, err := retry(func() (int, error) {
			return unix.Openat(dir, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return err
		}
		defer unix.Close(root)
		link := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, "root", link)
		if err != nil {
			return err
		}
		path, ok := beneath(string(link[:n]), path)
		if !ok {
			return nil // it has left the file behind by chroot
		}
		how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
		fd, err := retry(func() (int, error) { return unix.Openat2(root, path, &how) })
		switch err {
		case nil:
		case unix.ENOENT, unix.ENOTDIR:
			gone = true
			return nil
		default:
			return nil // there may be one; it can't be told
		}
		defer unix.Close(fd)
		var info unix.Stat_t
		if unix.Fstat(fd, &info) != nil || info.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil // a pipe or a device must not even be opened
		}
		again, err := retry(func() (int, error) {
			return unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return nil
		}
		f := os.NewFile(uintptr(again), path)
		defer f.Close()
		if h, err := readHeader(f, 0); err == nil {
			buildID = h.buildID
		}
		return nil
	})
	return buildID, gone, err
}
