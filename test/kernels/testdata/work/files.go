// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// content makes bytes that no compressor of a file system makes small, the same
// for the same number.
func content(n, size int) []byte {
	seed := [32]byte{}
	binary.LittleEndian.PutUint64(seed[:], uint64(n))
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// files makes, changes, links, moves and removes files of a file system, and
// reads back what it wrote.
func files(root string, n int) error {
	dir := filepath.Join(root, fmt.Sprintf("round%d", n%8))
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		return err
	}
	text := content(n, 1<<12+n%7*100_000)
	a := filepath.Join(dir, "a")
	if err := write(a, text); err != nil {
		return err
	}
	if err := change(a, text); err != nil {
		return fmt.Errorf("%s: %w", a, err)
	}
	for i := range 24 {
		name := filepath.Join(dir, fmt.Sprintf("small%d", i))
		if err := os.WriteFile(name, text[:i*40], 0o600); err != nil {
			return err
		}
		if err := os.Rename(name, filepath.Join(dir, "sub", fmt.Sprintf("moved%d", i))); err != nil {
			return err
		}
	}
	for _, link := range []func(string, string) error{os.Link, os.Symlink} {
		if err := link(a, filepath.Join(dir, "link")); err != nil {
			return err
		}
		if b, err := os.ReadFile(filepath.Join(dir, "link")); err != nil || len(b) == 0 {
			return fmt.Errorf("%s: link: %w", dir, err)
		}
		if err := os.Remove(filepath.Join(dir, "link")); err != nil {
			return err
		}
	}
	if err := unix.Setxattr(a, "user.tsugi", text[:64], 0); err == nil {
		got := make([]byte, 80)
		if k, err := unix.Getxattr(a, "user.tsugi", got); err != nil || !bytes.Equal(got[:k], text[:64]) {
			return fmt.Errorf("%s: attribute: %w", a, err)
		}
	} else if !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%s: attribute: %w", a, err)
	}
	if list, err := os.ReadDir(filepath.Join(dir, "sub")); err != nil || len(list) != 24 {
		return fmt.Errorf("%s: %d entries: %w", dir, len(list), err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return err
	}
	if n%8 == 7 {
		unix.Sync()
	}
	return os.RemoveAll(dir)
}

func write(path string, text []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for len(text) > 0 && err == nil {
		k := min(len(text), 10_000)
		_, err = f.Write(text[:k])
		text = text[k:]
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// change edits a file through a mapping, punches a hole, cuts and extends it.
func change(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, len(text), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	if sha256.Sum256(m) != sha256.Sum256(text) {
		return errors.New("it holds something else than was written")
	}
	m[1], m[len(m)-1] = 1, 2
	if err := errors.Join(unix.Msync(m, unix.MS_SYNC), unix.Munmap(m)); err != nil {
		return err
	}
	ends := make([]byte, 2)
	if _, err := f.ReadAt(ends, int64(len(text)-2)); err != nil || ends[1] != 2 {
		return fmt.Errorf("what a mapping wrote is not there: %w", err)
	}
	if len(text) > 1<<16 {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 8192)
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		hole := make([]byte, 8192)
		if _, e := f.ReadAt(hole, 4096); e != nil || err == nil && !bytes.Equal(hole, make([]byte, 8192)) {
			return fmt.Errorf("the hole has content: %w", e)
		}
	}
	if err := errors.Join(f.Truncate(100), f.Truncate(int64(len(text)))); err != nil {
		return err
	}
	got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err == nil && (len(got) != len(text) || !bytes.Equal(got[2:100], text[2:100]) || got[200] != 0) {
		err = errors.New("cutting it left something else")
	}
	return err
}

// mounts mounts a file system in memory and one over it, and uses both.
func mounts(int) error {
	base, err := os.MkdirTemp("", "mounts")
	if err != nil {
		return err
	}
	defer os.RemoveAll(base)
	if err := unix.Mount("none", base, "tmpfs", 0, ""); err != nil {
		return err
	}
	defer func() { _ = unix.Unmount(base, unix.MNT_DETACH) }()
	for _, d := range []string{"lower", "upper", "work", "all", "bind"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(base+"/lower/x", []byte("lower"), 0o644); err != nil {
		return err
	}
	all := base + "/all"
	if err := unix.Mount("none", all, "overlay", 0, fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", base)); err != nil {
		return absent(err)
	}
	f, err := os.OpenFile(all+"/x", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(" upper")
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if b, err := os.ReadFile(all + "/x"); err != nil || string(b) != "lower upper" {
		return fmt.Errorf("overlay: %q: %w", b, err)
	}
	if err := unix.Mount(all, base+"/bind", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	// Namespaces that are made meanwhile have copies: it can be busy for a moment.
	return errors.Join(unix.Unmount(base+"/bind", unix.MNT_DETACH), unix.Unmount(all, unix.MNT_DETACH))
}

// readProc reads what the kernel shows of itself.
func readProc(n int) error {
	patterns := []string{"/proc/self/*", "/proc/*/stat", "/proc/net/*", "/proc/sys/*/*", "/sys/kernel/livepatch/*/*", "/sys/module/*/refcnt", "/proc/[a-z]*", "/sys/class/net/*/*"}
	names, err := filepath.Glob(patterns[n%len(patterns)])
	if err != nil {
		return err
	}
	for _, name := range names {
		st, err := os.Stat(name)
		if err != nil || !st.Mode().IsRegular() || name == "/proc/kmsg" || name == "/proc/kcore" || name == "/proc/self/mem" || name == "/proc/self/pagemap" {
			continue
		}
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			continue // gone, or for nobody to read
		}
		b := make([]byte, 1<<16)
		_, _ = unix.Read(fd, b)
		unix.Close(fd)
	}
	return nil
}
