// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/klauspost/compress/zstd"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/servercli/archive"
)

func sample(t testing.TB) []byte {
	var b bytes.Buffer
	w, err := archive.NewWriter(&b, archive.Info{URL: "https://x:1", Created: 1_700_000_000_000})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(w.AddBytes(archive.Config, []byte("url: https://x:1\n"))))
	qt.Assert(t, qt.IsNil(w.AddBytes(archive.Database, bytes.Repeat([]byte("rows"), 1000))))
	qt.Assert(t, qt.IsNil(w.AddBytes(archive.Blobs+"tuf/metadata/1.root.json", []byte("{}"))))
	qt.Assert(t, qt.IsNil(w.Close()))
	return b.Bytes()
}

func readAll(b []byte) (archive.Info, map[string]string, error) {
	got := map[string]string{}
	info, err := archive.Read(bytes.NewReader(b), func(name string, size int64, r io.Reader) error {
		text, err := io.ReadAll(r)
		got[name] = string(text)
		return err
	})
	return info, got, err
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	b := sample(t)
	info, got, err := readAll(b)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(info.URL, "https://x:1"))
	qt.Check(t, qt.Equals(got[archive.Config], "url: https://x:1\n"))
	qt.Check(t, qt.Equals(len(got[archive.Database]), 4000))
	qt.Check(t, qt.Equals(got["blobs/tuf/metadata/1.root.json"], "{}"))
	// Members that the caller does not read are checked all the same.
	_, err = archive.Read(bytes.NewReader(b), func(string, int64, io.Reader) error { return nil })
	qt.Check(t, qt.IsNil(err))
	stop := errors.New("stop")
	_, err = archive.Read(bytes.NewReader(b), func(string, int64, io.Reader) error { return stop })
	qt.Check(t, qt.ErrorIs(err, stop))
	qt.Check(t, qt.Equals(code.Of(err), ""))
}

func TestWhatIsNotWholeIsRefused(t *testing.T) {
	t.Parallel()
	b := sample(t)
	for n := range len(b) {
		_, _, err := readAll(b[:n])
		qt.Assert(t, qt.Equals(code.Of(err), "TS7808"), qt.Commentf("cut to %d bytes", n))
	}
	dec, err := zstd.NewReader(nil)
	qt.Assert(t, qt.IsNil(err))
	defer dec.Close()
	plain, err := dec.DecodeAll(b, nil)
	qt.Assert(t, qt.IsNil(err))
	enc, err := zstd.NewWriter(nil)
	qt.Assert(t, qt.IsNil(err))
	// Not a byte of what is in it may change. Times and modes of tar headers
	// say nothing here; tar's own checksum covers them.
	i := bytes.Index(plain, []byte("rowsrows"))
	edited := bytes.Clone(plain)
	edited[i]++
	_, _, err = readAll(enc.EncodeAll(edited, nil))
	qt.Check(t, qt.Equals(code.Of(err), "TS7808"))
	qt.Check(t, qt.ErrorMatches(err, ".*database is damaged.*"))
	_, _, err = readAll([]byte("no archive"))
	qt.Check(t, qt.Equals(code.Of(err), "TS7808"))
}

func FuzzRead(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte{})
	dec, err := zstd.NewReader(nil)
	if err != nil {
		f.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	plain, err := dec.DecodeAll(sample(f), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Fuzz(func(t *testing.T, b []byte) {
		// The fuzzer works on tar bytes: it would never get past zstd's checks.
		info, got, err := readAll(enc.EncodeAll(b, nil))
		if err != nil {
			return
		}
		if info.Format != archive.Format || got[archive.InfoName] == "" {
			t.Fatalf("accepted without its information: %v", got)
		}
		for name := range got {
			if name[0] == '/' || bytes.Contains([]byte("/"+name+"/"), []byte("/../")) {
				t.Fatalf("accepted %q", name)
			}
		}
	})
}
