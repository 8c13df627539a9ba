// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// disk adds a virtio disk backed by a sparse file without a name.
func (s *setup) disk(ctx context.Context, d Disk) (*os.File, error) {
	f, err := anonymous("", d.Size)
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w", d.Name, err)
	}
	p := fmt.Sprintf("/dev/fd/%d", s.fd(f))
	if err := mkfs(ctx, f, d); err != nil {
		return nil, err
	}
	s.args = append(s.args,
		"-drive", "if=none,format=raw,cache=unsafe,werror=report,rerror=report,id="+d.Name+",file="+p,
		"-device", "virtio-blk-pci,drive="+d.Name+",serial="+d.Name)
	return f, nil
}

// anonymous makes a sparse file in a directory, "" for that of temporary
// files, that is gone when it is closed.
func anonymous(dir string, size int64) (*os.File, error) {
	f, err := os.CreateTemp(dir, "tsugi-disk-*")
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.Remove(f.Name()), f.Truncate(size))
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// mkfs makes the file system of a disk, if it is to have one.
func mkfs(ctx context.Context, f *os.File, d Disk) error {
	if d.FS == "" {
		return nil
	}
	tool, err := exec.LookPath("mkfs." + d.FS)
	if err != nil {
		tool = "/sbin/mkfs." + d.FS
	}
	args := append(append([]string{}, d.MkfsArgs...), "/dev/fd/3")
	if strings.HasPrefix(d.FS, "ext") {
		args = append([]string{"-q", "-F"}, args...)
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.ExtraFiles = []*os.File{f}
	if out, err := cmd.CombinedOutput(); err != nil {
		return problem("TS6003", "mkfs."+d.FS, strings.TrimSpace(string(out))).With(err)
	}
	return nil
}

// keptDisk is a disk that outlives its machine. QEMU works on a copy of the
// file and logs every write and flush, so that the file can become what a
// drive would hold: all of the copy, or the log as far as power loss lets it.
type keptDisk struct {
	Disk
	file, copy, log *os.File
}

// keep adds a virtio disk whose contents stay in a file.
func (s *setup) keep(ctx context.Context, d Disk) error {
	k, err := openKept(ctx, d)
	if err != nil {
		return fmt.Errorf("disk %s: %w", d.Name, err)
	}
	s.close = append(s.close, k.file)
	s.kept = append(s.kept, k)
	part := func(what string, f *os.File) string {
		name := d.Name + "-" + what
		// What the host's own flushes would guard against is not at stake here:
		// the log is what counts.
		s.args = append(s.args, "-blockdev", fmt.Sprintf(
			"driver=file,node-name=%s,filename=/dev/fd/%d,locking=off,cache.no-flush=on", name, s.fd(f)))
		return name
	}
	s.args = append(s.args,
		"-blockdev", fmt.Sprintf("driver=blklogwrites,node-name=%s,file=%s,log=%s,log-sector-size=%d",
			d.Name, part("copy", k.copy), part("log", k.log), logSector),
		// QEMU 7.2 garbles its log when zeroes are written as such.
		"-device", fmt.Sprintf("virtio-blk-pci,drive=%s,serial=%s,write-cache=on,discard=off,write-zeroes=off", d.Name, d.Name))
	return nil
}

func (s *setup) isKept(f *os.File) bool {
	for _, k := range s.kept {
		if f == k.copy || f == k.log {
			return true
		}
	}
	return false
}

// store writes back what became of the disks that are kept.
func (s *setup) store(cut bool) error {
	for _, k := range s.kept {
		var err error
		if cut {
			err = replay(k.log, k.file, k.Loss)
		} else {
			err = copySparse(k.file, k.copy)
		}
		if err != nil {
			return fmt.Errorf("disk %s: %s: %w", k.Name, k.File, err)
		}
	}
	return nil
}

// openKept opens a disk's file, or makes it whole or not at all, and locks it.
func openKept(ctx context.Context, d Disk) (_ *keptDisk, err error) {
	k := &keptDisk{Disk: d}
	defer func() {
		if err != nil {
			closeAll(k.file, k.copy, k.log)
		}
	}()
	dir := filepath.Dir(d.File)
	k.file, err = os.OpenFile(d.File, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		k.file, err = makeKept(ctx, dir, d)
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(k.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%s: another machine uses it: %w", d.File, err)
	}
	fi, err := k.file.Stat()
	if err != nil {
		return nil, err
	}
	if k.copy, err = anonymous(dir, fi.Size()); err != nil {
		return nil, err
	}
	if err := copySparse(k.copy, k.file); err != nil {
		return nil, err
	}
	k.log, err = anonymous(dir, 0)
	return k, err
}

func makeKept(ctx context.Context, dir string, d Disk) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".tsugi-disk-*")
	if err != nil {
		return nil, err
	}
	err = f.Truncate(d.Size)
	if err == nil {
		err = mkfs(ctx, f, d)
	}
	if err == nil {
		err = os.Rename(f.Name(), d.File)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		f.Close()
		return nil, err
	}
	return f, nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// copySparse makes to the same as from, holes included (lseek(2)).
func copySparse(to, from *os.File) error {
	fi, err := from.Stat()
	if err != nil {
		return err
	}
	if err := errors.Join(to.Truncate(0), to.Truncate(fi.Size())); err != nil {
		return err
	}
	for at := int64(0); at < fi.Size(); {
		data, err := from.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := from.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(to, data), io.NewSectionReader(from, data, hole-data)); err != nil {
			return err
		}
		at = hole
	}
	return nil
}
