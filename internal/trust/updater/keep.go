// SPDX-License-Identifier: Apache-2.0

package updater

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"time"

	"github.com/google/renameio/v2"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// The files of the directory. root.json changes by itself, as soon as a newer
// root holds; everything else is one file and changes at once. It is a tar so
// that a person can look into it.
const (
	pinnedFile  = "pinned-root.json" // as it was at enrolment
	rootFile    = "root.json"        // the newest
	trustedFile = "trusted.tar"

	stateName = "state.json"
	maxKept   = 64 << 20
)

// kept is what a machine has verified and goes on from.
type kept struct {
	// newest is below what nothing may go back.
	newest topLevel
	// cached are states that are whole in themselves, for when there is no
	// network: the latest first. What a failed update left behind in newest
	// does not touch them.
	cached []cachedState

	Floors    map[string]floor `json:"floors,omitempty"` // by path of the index
	Refreshed time.Time        `json:"refreshed"`
}

type topLevel struct{ timestamp, snapshot, targets []byte }

// cachedState is an index, or a list of packages, with all that it is verified
// by. Most share that: it is written once for those in a row.
type cachedState struct {
	topLevel
	role, index []byte // index nil: the tier has nothing there
	place

	Refreshed time.Time `json:"refreshed"`
}

// place is where an index is: that of a kernel or package, for the machines of
// a policy, or, without a build-id, the tier's list of packages.
type place struct {
	Tier    string `json:"tier"`
	BuildID string `json:"build_id"`
	Policy  string `json:"policy,omitempty"` // trust.PolicyWord
}

// path is that of the TUF target.
func (p place) path() string {
	if p.BuildID == "" {
		return trust.PackagesPath(p.Tier)
	}
	return trust.IndexPath(p.Tier, p.BuildID, p.Policy)
}

// kernel tells an index of a kernel, whose build-id is a SHA-1 in all that is
// known, from what belongs to packages, whose ids are SHA-256. How many are
// kept hangs on it, and nothing else.
func (p place) kernel() bool { return p.BuildID != "" && len(p.BuildID) != hex.EncodedLen(sha256.Size) }

const (
	// maxKernels is how many kernels' indexes are kept: a machine may boot an
	// older one before its network is up.
	maxKernels = 4
	// maxPackages is how many of packages are: the processes of a machine map
	// files of many. They are small, and share what they are verified by.
	maxPackages = 128
	maxCached   = maxKernels + maxPackages
)

// floor is the number below which an index, or a list of packages, is not taken
// any more.
type floor struct {
	Sequence int64    `json:"sequence"`
	Keys     []string `json:"keys"` // ids of the tier's keys then
}

// find returns the cached state of a place.
func (k *kept) find(at place) (cachedState, bool) {
	for _, c := range k.cached {
		if c.place == at {
			return c, true
		}
	}
	return cachedState{}, false
}

// role is the newest metadata of a tier that is at hand.
func (k *kept) role(tier string) []byte {
	var newest cachedState
	for _, c := range k.cached {
		if c.Tier == tier && (newest.role == nil || c.Refreshed.After(newest.Refreshed)) {
			newest = c
		}
	}
	return newest.role
}

// with is the same with another state cached, instead of the one of that place.
// The kernel of the last state is the first. Packages stay in their order: a
// machine asks for all of them each time, and no disk has to hear of that.
func (k *kept) with(c cachedState) *kept {
	next := *k
	var kernels, packages []cachedState
	for _, o := range k.cached {
		switch {
		case o.place == c.place && c.kernel():
		case o.place == c.place:
			packages = append(packages, c)
		case o.kernel():
			kernels = append(kernels, o)
		default:
			packages = append(packages, o)
		}
	}
	if c.kernel() {
		kernels = slices.Insert(kernels, 0, c)
	} else if _, there := k.find(c.place); !there {
		packages = slices.Insert(packages, 0, c)
	}
	next.cached = slices.Concat(kernels[:min(len(kernels), maxKernels)], packages[:min(len(packages), maxPackages)])
	return &next
}

// carry is the same with a state's metadata for all of the tier that it says
// the same of as theirs.
func (k *kept) carry(c cachedState, targets map[string]*metadata.TargetFiles) *kept {
	next := *k
	next.cached = slices.Clone(k.cached)
	for i := range next.cached {
		o := &next.cached[i]
		if o.Tier != c.Tier {
			continue
		}
		target, ok := targets[o.path()]
		same := !ok && o.index == nil
		if ok && target != nil && o.index != nil {
			same = target.VerifyLengthHashes(o.index) == nil
		}
		if same {
			o.topLevel, o.role, o.Refreshed = c.topLevel, c.role, c.Refreshed
		}
	}
	return &next
}

// loadRoot reads the newest root that holds. When that is lost, the pinned one
// leads to it again.
func (u *Updater) loadRoot() ([]byte, error) {
	var last error
	for _, name := range []string{rootFile, pinnedFile} {
		b, err := os.ReadFile(u.path(name))
		if err == nil {
			err = repo.VerifyRoot(b)
		}
		if err == nil {
			return b, nil
		}
		if last == nil || !errors.Is(err, os.ErrNotExist) {
			last = disk(u.path(name), err)
		}
	}
	if errors.Is(last, os.ErrNotExist) {
		return nil, code.New("TS7110", "", "")
	}
	return nil, last
}

// load reads what is kept. There is always a value: an empty one when nothing
// is kept, and with an error when it is damaged.
func (u *Updater) load() (*kept, error) {
	empty := &kept{Floors: map[string]floor{}}
	b, err := os.ReadFile(u.path(trustedFile))
	if errors.Is(err, os.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, disk(u.path(trustedFile), err)
	}
	k, err := parseKept(b)
	if err != nil {
		return empty, code.New("TS7122", u.path(trustedFile), "").With(err)
	}
	return k, nil
}

func parseKept(b []byte) (*kept, error) {
	k := &kept{}
	t := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg || h.Size < 0 || h.Size > maxKept {
			return nil, fmt.Errorf("member %s: not a plain file", h.Name)
		}
		body, err := io.ReadAll(io.LimitReader(t, h.Size))
		if err != nil {
			return nil, err
		}
		if err := k.member(h.Name, body); err != nil {
			return nil, err
		}
	}
	if !k.newest.whole() {
		return nil, errors.New("it is not whole")
	}
	for i := range k.cached {
		if i > 0 {
			k.cached[i].after(k.cached[i-1])
		}
	}
	for _, c := range k.cached {
		if !c.whole() || c.role == nil {
			return nil, errors.New("it is not whole")
		}
	}
	if k.Floors == nil {
		k.Floors = map[string]floor{}
	}
	// A tar that lost its end looks like a shorter one. Older programs wrote out
	// all of each state.
	for _, form := range []func() ([]byte, error){k.bytes, k.long} {
		if again, err := form(); err == nil && bytes.Equal(again, b) {
			return k, nil
		}
	}
	return nil, errors.New("it is not as it was written")
}

// after fills in what is not written because the state before has the same.
func (c *cachedState) after(o cachedState) {
	for _, m := range []struct {
		mine *[]byte
		same []byte
	}{{&c.timestamp, o.timestamp}, {&c.snapshot, o.snapshot}, {&c.targets, o.targets}, {&c.role, o.role}} {
		if *m.mine == nil {
			*m.mine = m.same
		}
	}
}

func (t *topLevel) whole() bool {
	return t.timestamp != nil && t.snapshot != nil && t.targets != nil
}

func (t *topLevel) member(name string) *[]byte {
	switch name {
	case "timestamp.json":
		return &t.timestamp
	case "snapshot.json":
		return &t.snapshot
	case "targets.json":
		return &t.targets
	}
	return nil
}

func (k *kept) member(name string, body []byte) error {
	if name == stateName {
		return json.Unmarshal(body, k)
	}
	dir, file := path.Split(name)
	if dir == "newest/" {
		if p := k.newest.member(file); p != nil {
			*p = body
			return nil
		}
	}
	var i int
	if _, err := fmt.Sscanf(dir, "cached-%d/", &i); err != nil || i < 0 || i > len(k.cached) || i >= maxCached {
		return fmt.Errorf("member %s: unknown", name)
	}
	if i == len(k.cached) {
		k.cached = append(k.cached, cachedState{})
	}
	c := &k.cached[i]
	switch file {
	case stateName:
		return json.Unmarshal(body, c)
	case "role.json":
		c.role = body
	case "index.json":
		c.index = body
	default:
		p := c.topLevel.member(file)
		if p == nil {
			return fmt.Errorf("member %s: unknown", name)
		}
		*p = body
	}
	return nil
}

// bytes is how it is written.
func (k *kept) bytes() ([]byte, error) { return k.write(true) }

// long writes out all of each state.
func (k *kept) long() ([]byte, error) { return k.write(false) }

func (k *kept) write(short bool) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var err error
	put := func(name string, body []byte) {
		if err == nil && body != nil {
			err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(body)), ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
		}
		if err == nil && body != nil {
			_, err = w.Write(body)
		}
	}
	top := func(dir string, state any, t topLevel) {
		b, e := json.Marshal(state)
		err = errors.Join(err, e)
		put(dir+stateName, b)
		if dir == "" {
			dir = "newest/"
		}
		put(dir+"timestamp.json", t.timestamp)
		put(dir+"snapshot.json", t.snapshot)
		put(dir+"targets.json", t.targets)
	}
	top("", k, k.newest)
	for i, c := range k.cached {
		dir := fmt.Sprintf("cached-%d/", i)
		if o := k.cached[max(i-1, 0)]; short && i > 0 {
			c.timestamp, c.snapshot = unless(o.timestamp, c.timestamp), unless(o.snapshot, c.snapshot)
			c.targets, c.role = unless(o.targets, c.targets), unless(o.role, c.role)
		}
		top(dir, c, c.topLevel)
		put(dir+"role.json", c.role)
		put(dir+"index.json", c.index)
	}
	if err == nil {
		err = w.Close()
	}
	return b.Bytes(), err
}

// unless is b, or nil where a says the same.
func unless(a, b []byte) []byte {
	if bytes.Equal(a, b) {
		return nil
	}
	return b
}

// save writes down what follows on what the disk has, if anything is new.
func (u *Updater) save(have, next *kept) error {
	// The time of a refresh alone is not worth a write: an idle machine would
	// wear its disk for it.
	if have.newest.whole() && next.Refreshed.Sub(have.Refreshed).Abs() < time.Hour {
		a, errA := have.timeless().bytes()
		b, errB := next.timeless().bytes()
		if errA == nil && errB == nil && bytes.Equal(a, b) {
			return nil
		}
	}
	b, err := next.bytes()
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(u.path(trustedFile), b, 0o600); err != nil {
		return disk(u.path(trustedFile), err)
	}
	return nil
}

// timeless is the same without its times.
func (k *kept) timeless() *kept {
	out := *k
	out.Refreshed = time.Time{}
	out.cached = slices.Clone(k.cached)
	for i := range out.cached {
		out.cached[i].Refreshed = time.Time{}
	}
	return &out
}

func disk(path string, err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		err = pe.Err
	}
	return code.New("TS7122", path, "").With(err)
}
