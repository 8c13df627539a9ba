// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

func codeOf(err error) code.Code {
	if p, ok := errors.AsType[*code.Problem](err); ok {
		return p.Code
	}
	return ""
}

// TestMain is also the program that TestAKilledProcess kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("TSUGI_BLOB_WRITER"); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// content is the blob of a number; its name tells its digest.
func content(i int) (name string, b []byte) {
	b = bytes.Repeat([]byte{byte(i), byte(i >> 8), 'x'}, 1+i*977%90_000)
	return fmt.Sprintf("by/%d/%x", i%3, sha256.Sum256(b)), b
}

func writeUntilKilled(dir string) error {
	f, err := OpenFolder(dir)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		name, b := content(i)
		if err := f.Put(context.Background(), name, bytes.NewReader(b), int64(len(b))); err != nil {
			return err
		}
		fmt.Println(name)
	}
}

func TestAKilledProcessLeavesNothingHalfWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 6 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "TSUGI_BLOB_WRITER="+dir)
		out, err := cmd.StdoutPipe()
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(cmd.Start()))
		stored := []string{}
		lines := bufio.NewScanner(out)
		for n := 1 + rand.IntN(40); lines.Scan(); n-- {
			stored = append(stored, lines.Text())
			if n == 0 {
				time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
				qt.Assert(t, qt.IsNil(cmd.Process.Kill()))
			}
		}
		cmd.Wait() //nolint:errcheck // it was killed
		qt.Assert(t, qt.IsTrue(len(stored) > 0))

		f, err := OpenFolder(dir)
		qt.Assert(t, qt.IsNil(err))
		for _, name := range stored {
			_, err := f.Stat(t.Context(), name)
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s was acknowledged", name))
		}
		for i, err := range f.List(t.Context(), "") {
			qt.Assert(t, qt.IsNil(err))
			sum := sha256.Sum256(read(t, f, i.Name))
			qt.Check(t, qt.Equals(filepath.Base(i.Name), fmt.Sprintf("%x", sum)))
		}
		qt.Assert(t, qt.IsNil(f.Close()))
	}
}

func TestOldLitterIsRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	qt.Assert(t, qt.IsNil(os.Mkdir(filepath.Join(dir, incoming), 0o755)))
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "new": time.Hour} {
		p := filepath.Join(dir, incoming, name)
		qt.Assert(t, qt.IsNil(os.WriteFile(p, nil, 0o644)))
		qt.Assert(t, qt.IsNil(os.Chtimes(p, time.Time{}, time.Now().Add(-age))))
	}
	f, err := OpenFolder(dir)
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	left, err := filepath.Glob(filepath.Join(dir, incoming, "*"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(left, []string{filepath.Join(dir, incoming, "new")}))
}

func TestLinksLeadNowhereElse(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o644)))
	qt.Assert(t, qt.IsNil(os.Symlink(outside, filepath.Join(dir, "out"))))
	f, err := OpenFolder(dir)
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	_, _, err = f.Open(t.Context(), "out/secret")
	qt.Check(t, qt.IsNotNil(err))
	qt.Check(t, qt.IsNotNil(f.Put(t.Context(), "out/new", strings.NewReader("x"), 1)))
	qt.Check(t, qt.IsNotNil(f.Delete(t.Context(), "out/secret")))
	_, err = os.Stat(filepath.Join(outside, "secret"))
	qt.Check(t, qt.IsNil(err))
	_, err = os.Stat(filepath.Join(outside, "new"))
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
}

func TestABlobBelowABlobIsRefusedClearly(t *testing.T) {
	t.Parallel()
	f, err := OpenFolder(t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	put(t, f, "a/b", "x")
	qt.Check(t, qt.Equals(codeOf(f.Put(t.Context(), "a/b/c", strings.NewReader("y"), 1)), "TS7412"))
	qt.Check(t, qt.Equals(codeOf(f.Put(t.Context(), "a", strings.NewReader("y"), 1)), "TS7412"))
	qt.Check(t, qt.DeepEquals(names(t, f, ""), []string{"a/b"}))
	qt.Check(t, qt.Equals(string(read(t, f, "a/b")), "x"))
}

// small mounts a tmpfs of some MiB, which only root can.
func small(t *testing.T, options string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tsugi-test", dir, "tmpfs", 0, options); err != nil {
		need.Allowed(t, "mounting a small file system: ", err)
	}
	t.Cleanup(func() { qt.Check(t, qt.IsNil(syscall.Unmount(dir, syscall.MNT_DETACH))) })
	return dir
}

func TestAFullDisk(t *testing.T) {
	t.Parallel()
	f, err := OpenFolder(small(t, "size=2m"))
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	put(t, f, "there", "old")
	for _, name := range []string{"there", "new"} {
		err := f.Put(t.Context(), name, io.LimitReader(zeros{}, 4<<20), 4<<20)
		qt.Check(t, qt.Equals(codeOf(err), "TS7414"), qt.Commentf("%v", err))
	}
	qt.Check(t, qt.DeepEquals(names(t, f, ""), []string{"there"}))
	qt.Check(t, qt.Equals(string(read(t, f, "there")), "old"))
	put(t, f, "fits", strings.Repeat("x", 1<<20)) // nothing was left that takes space
}

func TestAReadOnlyFolder(t *testing.T) {
	t.Parallel()
	dir := small(t, "size=2m")
	f, err := OpenFolder(dir)
	qt.Assert(t, qt.IsNil(err))
	put(t, f, "there", "old")
	qt.Assert(t, qt.IsNil(f.Close()))
	qt.Assert(t, qt.IsNil(syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")))
	f, err = OpenFolder(dir)
	qt.Assert(t, qt.IsNil(err)) // reading goes on
	defer f.Close()
	qt.Check(t, qt.Equals(codeOf(f.Put(t.Context(), "there", strings.NewReader("x"), 1)), "TS7412"))
	qt.Check(t, qt.Equals(codeOf(f.Delete(t.Context(), "there")), "TS7412"))
	qt.Check(t, qt.Equals(string(read(t, f, "there")), "old"))
	_, err = OpenFolder(filepath.Join(dir, "new"))
	qt.Check(t, qt.Equals(codeOf(err), "TS7412"))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestABucketThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := fakeS3(t, "")
	c := S3Config{Endpoint: s.client.EndpointURL().Host, Bucket: "nowhere", Region: "local", AccessKey: "k", SecretKey: "s", Insecure: true}
	_, err := OpenS3(t.Context(), c)
	qt.Check(t, qt.Equals(codeOf(err), "TS7415"))
	c.Endpoint = "127.0.0.1:1" // nobody listens
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = OpenS3(ctx, c)
	qt.Check(t, qt.Equals(codeOf(err), "TS7415"))
	_, err = OpenS3(t.Context(), S3Config{Endpoint: "s3.example", Bucket: "b", CA: []byte("no PEM")})
	qt.Check(t, qt.Equals(codeOf(err), "TS7415"))
}
