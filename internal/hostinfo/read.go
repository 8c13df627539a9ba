// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Bounds of what is read. A kernel with every function traced shows some
// 60,000 lines of enabled_functions; a large machine loads a few hundred
// modules.
const (
	maxSmall = 1 << 20  // status files
	maxLarge = 64 << 20 // lists that grow with the kernel
	maxLine  = 64 << 10
	maxItems = 1 << 16 // entries of any list
)

func (r *Reader) root() string { return cmp.Or(r.Root, "/") }

func (r *Reader) path(p string) string { return filepath.Join(r.root(), p) }

// bytes reads a file of at most limit bytes. Files of /proc have no size to go
// by.
func (r *Reader) bytes(path string, limit int64) ([]byte, error) {
	f, err := os.Open(r.path(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return b, err
}

// text reads a file that should be there and notes when it is not.
func (r *Reader) text(path string, limit int64) string {
	b, err := r.bytes(path, limit)
	if err != nil {
		r.note(path, err)
		return ""
	}
	return string(b)
}

// line is text of a file without surrounding white space.
func (r *Reader) line(path string) string { return strings.TrimSpace(r.text(path, maxSmall)) }

// optional is line for a file that many systems do not have; only another
// error than that is noted.
func (r *Reader) optional(path string) string {
	b, err := r.bytes(path, maxSmall)
	if err != nil {
		if !absent(err) {
			r.note(path, err)
		}
		return ""
	}
	return strings.TrimSpace(string(b))
}

func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// stream gives the lines of a list one by one, so that a long one takes no
// memory. The returned error is of reading, or that of each.
func stream(in io.Reader, each func(line string) error) error {
	sc := bufio.NewScanner(io.LimitReader(in, maxLarge))
	sc.Buffer(make([]byte, 0, 4096), maxLine)
	for sc.Scan() {
		if err := each(sc.Text()); err != nil {
			return err
		}
	}
	return sc.Err()
}

var errTooMany = fmt.Errorf("more than %d entries", maxItems)

// arch is what uname -m says; /proc/sys/kernel/arch shows it from 6.1 on.
func (r *Reader) arch() string {
	if a := r.optional("proc/sys/kernel/arch"); a != "" || r.root() != "/" {
		return a
	}
	return machine()
}

func osName(release string) string {
	for l := range strings.Lines(release) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(l), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}

func parseUptime(s string) time.Duration {
	first, _, _ := strings.Cut(s, " ")
	f, err := strconv.ParseFloat(first, 64)
	if err != nil || !(f >= 0 && f < 1e9) {
		return 0
	}
	return time.Duration(f * float64(time.Second))
}

func parseMemAvailable(meminfo string) int64 {
	for l := range strings.Lines(meminfo) {
		if f := strings.Fields(l); len(f) == 3 && f[0] == "MemAvailable:" && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil || n < 0 || n > 1<<50 {
				return 0
			}
			return n << 10
		}
	}
	return 0
}

// parseStatus takes the effective user and capabilities off
// /proc/self/status; "Uid:" is followed by real, effective, saved and file
// system ids.
func parseStatus(status string) (root bool, caps uint64) {
	for l := range strings.Lines(status) {
		key, v, _ := strings.Cut(l, ":")
		switch f := strings.Fields(v); {
		case key == "Uid" && len(f) == 4:
			root = f[1] == "0"
		case key == "CapEff" && len(f) == 1:
			caps, _ = strconv.ParseUint(f[0], 16, 64)
		}
	}
	return root, caps
}

// countCPUs counts a list such as "0-3,8".
func countCPUs(s string) int {
	n := 0
	for part := range strings.SplitSeq(s, ",") {
		first, last, found := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.Atoi(first)
		if err != nil || a < 0 {
			return 0
		}
		b := a
		if found {
			if b, err = strconv.Atoi(last); err != nil {
				return 0
			}
		}
		if b < a || b > maxItems {
			return 0
		}
		n += b - a + 1
	}
	return n
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// container names what this system runs in when it has no kernel of its own.
// The pid namespace decides where it can be seen: the first one has a number
// that never changes (include/linux/proc_ns.h, PROC_PID_INIT_INO). The other
// signs outlive what made them, as in a machine that boots a container's
// image.
func (r *Reader) container() string {
	const first = "pid:[4026531836]"
	ns, err := os.Readlink(r.path("proc/self/ns/pid"))
	if err == nil && ns == first {
		return ""
	}
	if s := r.optional("run/systemd/container"); s != "" {
		return s
	}
	for _, c := range []struct{ file, name string }{{".dockerenv", "docker"}, {"run/.containerenv", "podman"}} {
		if _, err := os.Lstat(r.path(c.file)); err == nil {
			return c.name
		}
	}
	env, _ := r.bytes("proc/1/environ", maxSmall)
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if name, ok := bytes.CutPrefix(v, []byte("container=")); ok && len(name) > 0 {
			return string(name)
		}
	}
	if err == nil {
		return "another pid namespace"
	}
	return ""
}
