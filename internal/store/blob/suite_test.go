// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/go-quicktest/qt"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
)

// everywhere runs a test on each kind of store.
func everywhere(t *testing.T, test func(t *testing.T, s Store)) {
	t.Run("folder", func(t *testing.T) {
		t.Parallel()
		f, err := OpenFolder(t.TempDir())
		qt.Assert(t, qt.IsNil(err))
		defer f.Close()
		test(t, f)
	})
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		test(t, fakeS3(t, "fleet/one"))
	})
}

func fakeS3(t *testing.T, prefix string) *S3 {
	backend := s3mem.New()
	qt.Assert(t, qt.IsNil(backend.CreateBucket("tsugi")))
	// What is of others in the bucket is not seen.
	if prefix != "" {
		_, err := backend.PutObject("tsugi", "else", nil, strings.NewReader("x"), 1, nil)
		qt.Assert(t, qt.IsNil(err))
	}
	server := httptest.NewServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(server.Close)
	s, err := OpenS3(t.Context(), S3Config{
		Endpoint: strings.TrimPrefix(server.URL, "http://"), Bucket: "tsugi", Prefix: prefix, Region: "local",
		AccessKey: "key", SecretKey: "secret", Insecure: true,
	})
	qt.Assert(t, qt.IsNil(err))
	return s
}

func read(t *testing.T, s Store, name string) []byte {
	t.Helper()
	r, info, err := s.Open(t.Context(), name)
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	b, err := io.ReadAll(r)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(int64(len(b)), info.Size))
	return b
}

func names(t *testing.T, s Store, prefix string) []string {
	t.Helper()
	all := []string{}
	for i, err := range s.List(t.Context(), prefix) {
		qt.Assert(t, qt.IsNil(err))
		all = append(all, i.Name)
	}
	return all
}

func put(t *testing.T, s Store, name, text string) {
	t.Helper()
	qt.Assert(t, qt.IsNil(s.Put(t.Context(), name, strings.NewReader(text), int64(len(text)))))
}

func TestBlobsOfAllSizesComeBack(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, s Store) {
		for _, size := range []int{0, 1, 4096, inMemory - 1, inMemory, inMemory + 1, 2*partSize + 3} {
			for _, known := range []bool{true, false} {
				b := make([]byte, size)
				for i := range b {
					b[i] = byte(i * 7 >> 3)
				}
				announced := int64(size)
				if !known {
					announced = -1
				}
				name := fmt.Sprintf("sizes/%d-%v", size, known)
				// A reader that gives the bytes in odd pieces, its end with the last ones.
				r := iotest.DataErrReader(io.MultiReader(bytes.NewReader(b[:size/3]), bytes.NewReader(b[size/3:])))
				qt.Assert(t, qt.IsNil(s.Put(t.Context(), name, r, announced)))
				qt.Assert(t, qt.IsTrue(bytes.Equal(read(t, s, name), b)), qt.Commentf("%s", name))
				info, err := s.Stat(t.Context(), name)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.Equals(info.Size, int64(size)))
				qt.Assert(t, qt.Equals(info.Name, name))
				qt.Assert(t, qt.IsFalse(info.Modified.IsZero()))
			}
		}
	})
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, s Store) {
		put(t, s, "a/b", "x")
		for _, name := range []string{"b", "a", "a/b/c", "a/c"} {
			_, _, err := s.Open(t.Context(), name)
			if name != "a/b/c" { // a folder knows that a/b is no directory
				qt.Check(t, qt.ErrorIs(err, ErrNotFound), qt.Commentf("%s", name))
			}
			qt.Check(t, qt.IsNotNil(err))
			_, err = s.Stat(t.Context(), name)
			qt.Check(t, qt.IsNotNil(err))
		}
		qt.Check(t, qt.IsNil(s.Delete(t.Context(), "b")))
		qt.Check(t, qt.IsNil(s.Delete(t.Context(), "a"))) // not a blob, and nothing happens to those below
		qt.Check(t, qt.IsNil(s.Delete(t.Context(), "a/b")))
		qt.Check(t, qt.IsNil(s.Delete(t.Context(), "a/b")))
		_, err := s.Stat(t.Context(), "a/b")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		qt.Check(t, qt.DeepEquals(names(t, s, ""), []string{}))
	})
}

var badNames = []string{
	"", ".", "..", "/", "/a", "a/", "a//b", "../a", "a/../b", "a/..", "./a", ".hidden", "a/.hidden", incoming + "/x",
	"a\x00b", "a\nb", "a b", `a\b`, "ä", "a:b", "a*", "%2e%2e/a", strings.Repeat("a", maxPart+1), strings.Repeat("a/", maxName), "a/\xff",
}

func TestBadNamesAreRefused(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, s Store) {
		for _, name := range badNames {
			is := func(err error) {
				t.Helper()
				p, ok := errors.AsType[*code.Problem](err)
				qt.Check(t, qt.IsTrue(ok && p.Code == "TS7411"), qt.Commentf("%.40q: %v", name, err))
			}
			is(s.Put(t.Context(), name, strings.NewReader("x"), 1))
			_, _, err := s.Open(t.Context(), name)
			is(err)
			_, err = s.Stat(t.Context(), name)
			is(err)
			is(s.Delete(t.Context(), name))
			for _, err := range s.List(t.Context(), name) {
				qt.Check(t, qt.IsNil(err)) // a prefix may be anything; there is nothing below it
				t.Errorf("%q: something is listed", name)
			}
		}
		qt.Check(t, qt.DeepEquals(names(t, s, ""), []string{}))
	})
}

func FuzzCheckName(f *testing.F) {
	for _, n := range append(badNames, "a", "tuf/metadata/1.root.json", "tuf/targets/stable/ab12.debian-6.1.0-55-amd64-v3.tsugi.age") {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) != nil {
			return
		}
		for part := range strings.SplitSeq(name, "/") {
			if part == "" || part[0] == '.' || strings.ContainsAny(part, "\x00\\ \n") || len(part) > maxPart {
				t.Errorf("%q is allowed", name)
			}
		}
	})
}

func TestAWrongSizeStoresNothing(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, s Store) {
		big := strings.Repeat("0123456789abcdef", 2*partSize/16) // in parts
		for _, c := range []struct {
			text string
			size int64
		}{{"abc", 2}, {"abc", 4}, {"", 1}, {"a", 0}, {big, int64(len(big)) - 1}, {big, int64(len(big)) + 1}, {big[:6<<20], 6<<20 + 1}, {big[:6<<20], 6<<20 - 1}} {
			for _, before := range []string{"", "old"} {
				name := "wrong/size"
				if before != "" {
					put(t, s, name, before)
				}
				err := s.Put(t.Context(), name, strings.NewReader(c.text), c.size)
				p, ok := errors.AsType[*code.Problem](err)
				qt.Assert(t, qt.IsTrue(ok && p.Code == "TS7413"), qt.Commentf("%d bytes as %d: %v", len(c.text), c.size, err))
				if before != "" {
					qt.Check(t, qt.Equals(string(read(t, s, name)), before))
					qt.Assert(t, qt.IsNil(s.Delete(t.Context(), name)))
				}
				qt.Check(t, qt.DeepEquals(names(t, s, ""), []string{}))
			}
		}
	})
}

func TestABrokenReaderStoresNothing(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, s Store) {
		broken := errors.New("broken")
		for _, at := range []int{0, 1, 100, 6 << 20, 10 << 20} {
			for _, size := range []int64{-1, 20 << 20} {
				r := io.MultiReader(bytes.NewReader(make([]byte, at)), iotest.ErrReader(broken))
				err := s.Put(t.Context(), "broken", r, size)
				qt.Check(t, qt.ErrorIs(err, broken), qt.Commentf("at %d of %d", at, size))
				qt.Check(t, qt.DeepEquals(names(t, s, ""), []string{}))
			}
		}
	})
}

func TestACancelledPutStoresNothing(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, s Store) {
		ctx, cancel := context.WithCancel(t.Context())
		in, out := io.Pipe()
		go func() {
			out.Write(make([]byte, 10<<20))
			cancel()
			out.Write(make([]byte, 10<<20))
			out.Close()
		}()
		err := s.Put(ctx, "cancelled", in, 20<<20)
		in.Close()
		qt.Check(t, qt.ErrorIs(err, context.Canceled))
		qt.Check(t, qt.DeepEquals(names(t, s, ""), []string{}))
	})
}

func TestPartsCanBeRead(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, s Store) {
		b := make([]byte, 300_000)
		for i := range b {
			b[i] = byte(i ^ i>>8)
		}
		qt.Assert(t, qt.IsNil(s.Put(t.Context(), "parts", bytes.NewReader(b), int64(len(b)))))
		r, _, err := s.Open(t.Context(), "parts")
		qt.Assert(t, qt.IsNil(err))
		defer r.Close()
		for range 100 {
			from, n := rand.IntN(len(b)), rand.IntN(20_000)
			n = min(n, len(b)-from)
			at, err := r.Seek(int64(from), io.SeekStart)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(at, int64(from)))
			got := make([]byte, n)
			_, err = io.ReadFull(r, got)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsTrue(bytes.Equal(got, b[from:from+n])))
		}
		end, err := r.Seek(0, io.SeekEnd) // as http.ServeContent asks for the size
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(end, int64(len(b))))
	})
}

func TestAWholeBucket(t *testing.T) {
	t.Parallel()
	s := fakeS3(t, "")
	put(t, s, "a/b", "x")
	qt.Check(t, qt.DeepEquals(names(t, s, ""), []string{"a/b"}))
	qt.Check(t, qt.Equals(string(read(t, s, "a/b")), "x"))
}

func TestListsAreInOrderAndByPrefix(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, s Store) {
		all := []string{"a", "b-c/x", "b/x", "b/y/z", "b0", "tuf/metadata/1.root.json", "tuf/metadata/timestamp.json", "tuf/targets/edge/x"}
		for _, n := range slices.Backward(all) {
			put(t, s, n, n)
		}
		qt.Assert(t, qt.IsTrue(slices.IsSorted(all)))
		for _, prefix := range []string{"", "b", "b/", "b/y", "b/y/", "b/y/z", "b/y/z/", "tuf", "tuf/metadata/", "tuf/metadata/1", "c", "../", "/"} {
			want := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return !strings.HasPrefix(n, prefix) })
			qt.Check(t, qt.DeepEquals(names(t, s, prefix), want), qt.Commentf("%q", prefix))
		}
		for i, err := range s.List(t.Context(), "") { // one may stop early
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(i.Size, int64(len(i.Name))))
			break
		}
	})
}

// A folder's and a bucket's lists agree with a sorted set of names, whatever
// names there are.
func TestListsAgreeWithAModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.StringMatching(`[ab-][ab.-]{0,2}`)
		want := map[string]bool{}
		for range rapid.IntRange(0, 12).Draw(t, "n") {
			n := strings.Join(rapid.SliceOfN(part, 1, 3).Draw(t, "name"), "/")
			clash := false
			for w := range want {
				clash = clash || strings.HasPrefix(w, n+"/") || strings.HasPrefix(n, w+"/")
			}
			if !clash && CheckName(n) == nil {
				want[n] = true
			}
		}
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		dir, err := os.MkdirTemp("", "tsugi-blob-*")
		must(err)
		defer os.RemoveAll(dir)
		f, err := OpenFolder(dir)
		must(err)
		defer f.Close()
		for n := range want {
			must(f.Put(context.Background(), n, strings.NewReader(n), -1))
		}
		prefix := rapid.StringMatching(`[ab/.-]{0,3}`).Draw(t, "prefix")
		sorted := []string{}
		for n := range want {
			if strings.HasPrefix(n, prefix) {
				sorted = append(sorted, n)
			}
		}
		slices.Sort(sorted)
		got := []string{}
		for i, err := range f.List(context.Background(), prefix) {
			must(err)
			got = append(got, i.Name)
		}
		if !slices.Equal(got, sorted) {
			t.Fatalf("%q: %q, want %q", prefix, got, sorted)
		}
	})
}

func TestPutsOfOneNameAtATime(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, s Store) {
		const size = 200_000
		version := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, size) }
		sums := map[[32]byte]bool{}
		for i := range 8 {
			sums[sha256.Sum256(version(i))] = true
		}
		put(t, s, "deep/er/name", string(version(0)))
		var wg, readers sync.WaitGroup
		stop := make(chan struct{})
		for range 2 {
			readers.Go(func() { // whoever reads meanwhile has one version, whole
				for {
					select {
					case <-stop:
						return
					default:
					}
					r, _, err := s.Open(t.Context(), "deep/er/name")
					if err != nil {
						t.Errorf("open: %v", err)
						return
					}
					b, err := io.ReadAll(r)
					r.Close()
					// A bucket may say that the blob was replaced; never a mixture.
					if err == nil && !sums[sha256.Sum256(b)] {
						t.Errorf("%d bytes of no version", len(b))
						return
					}
				}
			})
		}
		for i := range 8 {
			wg.Go(func() {
				for range 5 {
					if err := s.Put(t.Context(), "deep/er/name", bytes.NewReader(version(i)), size); err != nil {
						t.Errorf("put: %v", err)
					}
				}
			})
		}
		wg.Wait()
		close(stop)
		readers.Wait()
		qt.Check(t, qt.IsTrue(sums[sha256.Sum256(read(t, s, "deep/er/name"))]))
		qt.Check(t, qt.DeepEquals(names(t, s, ""), []string{"deep/er/name"}))
	})
}
