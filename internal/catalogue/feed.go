// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/cve"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// Limits of a feed: what a mirror sends, and what an archive unpacks to.
const (
	maxDownload = 2 << 30
	maxUnpacked = 16 << 30
)

// FeedResult tells what feeds brought.
type FeedResult struct {
	Read      int `json:"read"`      // records in the feeds
	Added     int `json:"added"`     // of CVEs that nothing was known of
	Changed   int `json:"changed"`   // of CVEs of which something else was known
	Exploited int `json:"exploited"` // records of known exploited ones among those read
	// Bad are the texts that were left out because they can't be understood.
	Bad []*code.Problem `json:"bad,omitempty"`
}

// Feed reads CVE records, OSV records and the KEV catalogue from files,
// directories (every *.json below them), zip archives and http(s) addresses
// of any of these, and keeps what they tell. Nothing is kept when a source
// can't be read, or a record in it; with skipBad, records that can't be
// understood are left out, each text with all that is in it, and told.
// Errors: TS1209 for a source, TS1213 for a record.
func (c *Catalogue) Feed(ctx context.Context, client *http.Client, sources []string, skipBad bool, rep progress.Reporter) (FeedResult, error) {
	var res FeedResult
	var all []cve.Record
	take := func(name string, text []byte) error {
		if err := kernel.Interrupted(ctx); err != nil {
			return err
		}
		rs, err := readRecords(name, text)
		if p, is := errors.AsType[*code.Problem](err); is && skipBad && p.Code == "TS1213" {
			res.Bad = append(res.Bad, p)
			return nil
		}
		if err != nil {
			return err
		}
		for _, r := range rs {
			if r.Exploited {
				res.Exploited++
			}
		}
		all = append(all, rs...)
		return nil
	}
	for _, src := range sources {
		if err := readSource(ctx, client, src, rep, take); err != nil {
			return FeedResult{}, err
		}
	}
	res.Read = len(all)
	var err error
	res.Added, res.Changed, err = c.addRecords(ctx, all)
	return res, err
}

// readRecords reads a feed's text, the ids of which may name files.
func readRecords(name string, text []byte) ([]cve.Record, error) {
	rs, err := cve.Read(name, text)
	if err != nil {
		return nil, err
	}
	for _, r := range rs {
		if !validYear(year(r.ID)) {
			return nil, code.New("TS1213", name, fmt.Sprintf("CVE id %.40q", r.ID))
		}
	}
	return rs, nil
}

func readSource(ctx context.Context, client *http.Client, src string, rep progress.Reporter, take func(string, []byte) error) error {
	if u, err := url.Parse(src); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		path, err := download(ctx, client, u, rep)
		if err != nil {
			return err
		}
		defer os.Remove(path)
		return readFeedFile(path, u.Redacted(), rep, take)
	}
	info, err := os.Stat(src)
	if err != nil {
		return code.New("TS1209", src, "").With(err)
	}
	if !info.IsDir() {
		return readFeedFile(src, src, rep, take)
	}
	task := rep.Start("read records", 0, progress.Files)
	err = filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(path, ".json") || isDelta(d.Name()) {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		task.Add(1)
		return take(path, text)
	})
	task.Done(err)
	return err
}

// isDelta tells the lists of changes that the CVE program puts beside its
// records.
func isDelta(name string) bool { return strings.HasPrefix(name, "delta") }

func readFeedFile(path, name string, rep progress.Reporter, take func(string, []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return code.New("TS1209", name, "").With(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0); err == nil && bytes.Equal(magic, []byte("PK\x03\x04")) {
		return readZip(f, st.Size(), name, rep, take)
	}
	if st.Size() > cve.MaxFeed {
		return code.New("TS1209", name, fmt.Sprintf("it is longer than %d MiB", cve.MaxFeed>>20))
	}
	text, err := io.ReadAll(io.LimitReader(f, cve.MaxFeed))
	if err != nil {
		return err
	}
	return take(name, text)
}

func readZip(f io.ReaderAt, size int64, name string, rep progress.Reporter, take func(string, []byte) error) (err error) {
	z, err := zip.NewReader(f, size)
	if err != nil {
		return code.New("TS1209", name, "").With(err)
	}
	task := rep.Start("read records", int64(len(z.File)), progress.Files)
	defer func() { task.Done(err) }()
	left := int64(maxUnpacked)
	for _, e := range z.File {
		task.Add(1)
		if !e.Mode().IsRegular() || !strings.HasSuffix(e.Name, ".json") || isDelta(filepath.Base(e.Name)) {
			continue
		}
		r, err := e.Open()
		if err != nil {
			return code.New("TS1209", name+": "+e.Name, "").With(err)
		}
		text, err := io.ReadAll(io.LimitReader(r, min(left, cve.MaxFeed)+1))
		if err = cmpErr(err, r.Close()); err != nil {
			return code.New("TS1209", name+": "+e.Name, "").With(err)
		}
		if left -= int64(len(text)); left < 0 {
			return code.New("TS1209", name, fmt.Sprintf("it unpacks to more than %d GiB", maxUnpacked>>30))
		}
		if err := take(name+": "+e.Name, text); err != nil {
			return err
		}
	}
	return nil
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// download fetches a feed into a temporary file, which the caller removes.
func download(ctx context.Context, client *http.Client, u *url.URL, rep progress.Reporter) (path string, err error) {
	where := u.Redacted()
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", code.New("TS1209", where, "").With(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", code.New("TS1209", where, "").With(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", code.New("TS1209", where, "the server answers "+resp.Status)
	}
	task := rep.Start("download", max(0, resp.ContentLength), progress.Bytes)
	defer func() { task.Done(err) }()
	f, err := os.CreateTemp("", "tsugi-feed-*")
	if err != nil {
		return "", kernel.DiskError(os.TempDir(), err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	n, err := io.Copy(f, io.TeeReader(io.LimitReader(resp.Body, maxDownload+1), counter{task}))
	if err = cmpErr(err, f.Close()); err != nil {
		return "", code.New("TS1209", where, "").With(kernel.DiskError(f.Name(), err))
	}
	if n > maxDownload {
		return "", code.New("TS1209", where, fmt.Sprintf("it is longer than %d GiB", maxDownload>>30))
	}
	return f.Name(), nil
}

type counter struct{ task progress.Task }

func (c counter) Write(b []byte) (int, error) {
	c.task.Add(int64(len(b)))
	return len(b), nil
}
