// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

const bootRelease = "6.1.0-99-amd64"

// bzImage is a kernel as far as this package looks: an ELF file with a build-id
// and a banner, packed as arch/x86/boot does.
func bzImage(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	src, out := filepath.Join(dir, "v.c"), filepath.Join(dir, "v")
	text := fmt.Sprintf(`const char banner[] = "Linux version %s (x) (gcc-12 (Debian) 12) #1 SMP\n"; void _start(void) {}`, bootRelease)
	qt.Assert(t, qt.IsNil(os.WriteFile(src, []byte(text), 0o644)))
	if b, err := exec.Command("gcc-12", "-nostdlib", "-static", "-Wl,--build-id=0xabcdef", "-o", out, src).CombinedOutput(); err != nil {
		need.Allowed(t, "gcc-12: ", err, string(b))
	}
	elf, err := os.ReadFile(out)
	qt.Assert(t, qt.IsNil(err))
	var payload bytes.Buffer
	z := gzip.NewWriter(&payload)
	_, err = z.Write(elf)
	qt.Assert(t, qt.IsNil(errors.Join(err, z.Close())))
	payload.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(elf))))
	b := make([]byte, 1024)
	copy(b, "MZ")
	b[0x1f1] = 1
	copy(b[0x1fe:], "\x55\xaa")
	copy(b[0x202:], "HdrS\x0f\x02")
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(payload.Len()))
	return append(b, payload.Bytes()...)
}

// distribution puts programs named as apt's into PATH. They have one kernel and
// count each download in the file that is returned.
func distribution(t *testing.T) (downloads string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte, mode os.FileMode) {
		path := filepath.Join(dir, name)
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(path), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(path, b, mode)))
	}
	write("deb/DEBIAN/control", []byte("Package: linux-image-"+bootRelease+"\nVersion: 6.1.199-1\nArchitecture: amd64\nMaintainer: x\nDescription: x\n"), 0o644)
	write("deb/boot/vmlinuz-"+bootRelease, bzImage(t), 0o644)
	write("deb/boot/config-"+bootRelease, []byte("CONFIG_X86_64=y\n"), 0o644)
	write("deb/lib/modules/"+bootRelease+"/modules.builtin", nil, 0o644)
	write("deb/lib/modules/"+bootRelease+"/kernel/fs/ext4.ko", []byte("elf"), 0o644)
	deb := filepath.Join(dir, "image.deb")
	if b, err := exec.Command("dpkg-deb", "-Zgzip", "--root-owner-group", "-b", filepath.Join(dir, "deb"), deb).CombinedOutput(); err != nil {
		need.Allowed(t, "dpkg-deb: ", err, string(b))
	}
	b, err := os.ReadFile(deb)
	qt.Assert(t, qt.IsNil(err))
	stanza := func(name, more string) string {
		return fmt.Sprintf("Package: %s\nVersion: 6.1.199-1\nArchitecture: amd64\n%sFilename: x\nSize: %d\nSHA256: %x\n", name, more, len(b), sha256.Sum256(b))
	}
	// The archive has lost the kernel of the first.
	write("meta", []byte(stanza(latest, "Depends: linux-image-6.1.0-100-amd64 (= 6.1.200-1)\n")+"\n"+
		stanza(latest, "Depends: linux-base (>= 4.3), linux-image-"+bootRelease+" (= 6.1.199-1)\n")), 0o644)
	write("image", []byte(stanza("linux-image-"+bootRelease, "")), 0o644)
	downloads = filepath.Join(dir, "downloads")
	write("bin/apt-cache", []byte(`#!/bin/sh
case $3 in
`+latest+`) cat `+dir+`/meta ;;
*-99-*) cat `+dir+`/image ;;
*) echo "E: No packages found" >&2; exit 100 ;;
esac
`), 0o755)
	write("bin/apt-get", []byte(`#!/bin/sh
echo x >>`+downloads+`
[ ! -e `+dir+`/slow ] || exec sleep 60
cp `+deb+` linux-image-`+bootRelease+`_6.1.199-1_amd64.deb
`), 0o755)
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	return downloads
}

func machinesApt(context.Context) (Apt, error) { return Apt{}, nil }

// TestAKernelToBootIsFetchedOnce however many ask for it at a time, and is no
// target that live patches are made for.
func TestAKernelToBootIsFetchedOnce(t *testing.T) {
	downloads := distribution(t)
	s := open(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			k, err := s.Boot(t.Context(), machinesApt, progress.Discard)
			if qt.Check(t, qt.IsNil(err)) {
				qt.Check(t, qt.Equals(k.Name, "debian:"+bootRelease))
				qt.Check(t, qt.Equals(k.BuildID, "abcdef"))
				qt.Check(t, qt.HasLen(k.ConfigDigest, 64))
				_, ok := k.ModulePath("ext4")
				qt.Check(t, qt.IsTrue(ok))
			}
		})
	}
	wg.Wait()
	b, err := os.ReadFile(downloads)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(strings.Count(string(b), "x"), 1))
	all, err := s.List()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(all, 0))

	// What somebody has broken is made again, of what was downloaded.
	k, err := s.Boot(t.Context(), machinesApt, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.Remove(k.Vmlinuz)))
	k, err = s.Boot(t.Context(), machinesApt, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	_, err = os.Stat(k.Vmlinuz)
	qt.Check(t, qt.IsNil(err))
	b, err = os.ReadFile(downloads)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(strings.Count(string(b), "x"), 1))

	// No apt is needed any more.
	_, err = s.Boot(t.Context(), func(context.Context) (Apt, error) { return Apt{}, errors.New("no network") }, progress.Discard)
	qt.Check(t, qt.IsNil(err))
}

// TestAKernelToBootIsNotWaitedForWithoutEnd and an interrupted job is told apart
// from that.
func TestAKernelToBootIsNotWaitedForWithoutEnd(t *testing.T) {
	downloads := distribution(t)
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(filepath.Dir(downloads), "slow"), nil, 0o644)))
	s := open(t)
	_, err := s.boot(t.Context(), machinesApt, 200*time.Millisecond, progress.Discard)
	qt.Check(t, qt.ErrorMatches(err, "it was not fetched within 200ms"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = s.Boot(ctx, machinesApt, progress.Discard)
	qt.Check(t, qt.Equals(code.Of(err), "TS9102"))
	left, err := filepath.Glob(filepath.Join(s.debs(), ".fetch-*"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(left, 0))
}
