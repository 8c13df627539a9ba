// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// File is one file in the guest: Data, or what the host's file From holds.
type File struct {
	Path string // absolute, in the guest
	Data []byte
	From string
	Mode os.FileMode // permission bits; 0 means 0644
}

// image collects an initramfs: an uncompressed newc archive, because the
// firmware's DMA is faster than a decompressor under emulation
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type image struct {
	files map[string]File
	links map[string]string
}

func (m *image) add(f File) {
	f.Path = path.Clean("/" + f.Path)
	m.files[f.Path] = f
}

// buildImage decides what is in the initramfs of a configuration.
func buildImage(ctx context.Context, cfg *Config, plan *wire.Plan) (*image, error) {
	m := &image{files: map[string]File{}, links: map[string]string{}}
	init, err := initProgram(cfg.Init)
	if err != nil {
		return nil, err
	}
	m.add(File{Path: "/init", From: init, Mode: 0o755})
	m.links["/sbin/modprobe"] = "/init"
	if err := m.addBusybox(ctx, cfg.Busybox); err != nil {
		return nil, err
	}
	for _, p := range cfg.Programs {
		if err := m.addProgram(p); err != nil {
			return nil, err
		}
	}
	if err := m.addModules(cfg); err != nil {
		return nil, err
	}
	b, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	m.add(File{Path: wire.PlanPath, Data: b})
	for _, f := range cfg.Files {
		m.add(f)
	}
	for at, to := range cfg.Links {
		m.links[path.Clean("/"+at)] = to
	}
	return m, nil
}

// addBusybox adds the host's busybox and a link for each of its applets.
func (m *image) addBusybox(ctx context.Context, bin string) error {
	if bin == "" {
		bin = "/bin/busybox"
	}
	out, err := exec.CommandContext(ctx, bin, "--list").Output()
	if err != nil {
		return problem("TS6002", bin, "").With(err)
	}
	if err := m.addELF(bin, "/bin/busybox"); err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(out)) {
		if p := "/bin/" + name; name != "busybox" && name != "modprobe" {
			m.links[p] = "busybox"
		}
	}
	return nil
}

// addProgram adds a program of the host under its own path, with the shared
// libraries that it needs.
func (m *image) addProgram(name string) error {
	bin, err := exec.LookPath(name)
	if err != nil {
		// An ordinary user's PATH lacks the directories of mkfs and friends.
		for _, dir := range []string{"/usr/sbin", "/sbin"} {
			if p := filepath.Join(dir, name); isExecutable(p) {
				bin, err = p, nil
				break
			}
		}
	}
	if err != nil {
		return problem("TS6003", name, "").With(err)
	}
	return m.addELF(bin, path.Join("/bin", filepath.Base(name)))
}

func (m *image) addELF(from, to string) error {
	libs, err := sharedLibraries(from)
	if err != nil {
		return fmt.Errorf("program %s: %w", from, err)
	}
	delete(m.links, to)
	m.add(File{Path: to, From: from, Mode: 0o755})
	for _, l := range libs {
		m.add(File{Path: l.guest, From: l.host, Mode: 0o755})
	}
	return nil
}

func isExecutable(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}

// write writes the archive, in an order that depends on the contents only.
func (m *image) write(w io.Writer) error {
	c := cpio.NewWriter(w)
	dirs := map[string]bool{}
	for _, p := range slices.Concat(slices.Collect(maps.Keys(m.files)), slices.Collect(maps.Keys(m.links))) {
		for d := path.Dir(p); d != "/"; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	for _, d := range []string{"/proc", "/sys", "/dev", "/tmp", "/run", "/etc", "/mnt"} {
		dirs[d] = true
	}
	for _, d := range slices.Sorted(maps.Keys(dirs)) {
		if err := c.WriteHeader(&cpio.Header{Name: d[1:], Mode: cpio.TypeDir | 0o755, Links: 2}); err != nil {
			return err
		}
	}
	for _, p := range slices.Sorted(maps.Keys(m.files)) {
		if err := writeFile(c, m.files[p]); err != nil {
			return fmt.Errorf("initramfs %s: %w", p, err)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(m.links)) {
		if _, taken := m.files[p]; taken {
			continue
		}
		to := m.links[p]
		h := &cpio.Header{Name: p[1:], Mode: cpio.TypeSymlink | 0o777, Size: int64(len(to)), Links: 1}
		if err := c.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.WriteString(c, to); err != nil {
			return err
		}
	}
	return c.Close()
}

func writeFile(c *cpio.Writer, f File) error {
	mode := f.Mode.Perm()
	if mode == 0 {
		mode = 0o644
	}
	var src io.Reader = strings.NewReader(string(f.Data))
	size := int64(len(f.Data))
	if f.From != "" {
		in, err := os.Open(f.From)
		if err != nil {
			return err
		}
		defer in.Close()
		fi, err := in.Stat()
		if err != nil {
			return err
		}
		src, size = in, fi.Size()
	}
	if size >= 1<<32 {
		return fmt.Errorf("%d bytes, more than the archive format can hold", size)
	}
	h := &cpio.Header{Name: f.Path[1:], Mode: cpio.TypeReg | cpio.FileMode(mode), Size: size, Links: 1}
	if err := c.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(c, io.LimitReader(src, size))
	return err
}

// save writes the archive to a file that is empty.
func (m *image) save(f *os.File) error {
	w := bufio.NewWriterSize(f, 1<<20)
	if err := m.write(w); err != nil {
		return err
	}
	return w.Flush()
}
