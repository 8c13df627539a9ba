// SPDX-License-Identifier: Apache-2.0

package updater_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
	"github.com/tsugi-project/tsugi/internal/trust/updater"
)

// forge changes metadata and signs it with the keys that an attacker has.
func forge[T metadata.Roles](t testing.TB, b []byte, change func(*T), keys ...*trust.Key) []byte {
	m := &metadata.Metadata[T]{}
	_, err := m.FromBytes(b)
	qt.Assert(t, qt.IsNil(err))
	change(&m.Signed)
	body, err := cjson.EncodeCanonical(m.Signed)
	qt.Assert(t, qt.IsNil(err))
	m.Signatures = nil
	for _, k := range keys {
		m.Signatures = append(m.Signatures, metadata.Signature{KeyID: k.ID(), Signature: k.Sign(body)})
	}
	out, err := m.ToBytes(false)
	qt.Assert(t, qt.IsNil(err))
	return out
}

type (
	timestampT = metadata.TimestampType
	snapshotT  = metadata.SnapshotType
	targetsT   = metadata.TargetsType
	rootT      = metadata.RootType
)

func info(version int64, b []byte) *metadata.MetaFiles {
	s := sha256.Sum256(b)
	return &metadata.MetaFiles{Version: version, Length: int64(len(b)), Hashes: metadata.Hashes{"sha256": s[:]}}
}

func entry(b []byte) *metadata.TargetFiles {
	s := sha256.Sum256(b)
	return &metadata.TargetFiles{Length: int64(len(b)), Hashes: metadata.Hashes{"sha256": s[:]}}
}

// current is the newest file of a role that is served.
func (w *world) current(role string) []byte { return w.repo.ByRole()[role] }

func (w *world) name(role string) string {
	return "metadata/" + repo.FileName(role, w.repo.Versions()[role])
}

// chain serves forged roles with honest ones above them signed by thieves:
// it puts a tier's role into a snapshot and that into a timestamp.
func (w *world) chain(files map[string][]byte, snapshotKey, timestampKey *trust.Key) {
	snap := forge(w.t, w.current("snapshot"), func(s *snapshotT) {
		s.Version++
		for role, b := range files {
			v := w.repo.Versions()[role] + 1
			s.Meta[role+".json"] = info(v, b)
			w.files["metadata/"+repo.FileName(role, v)] = b
		}
	}, snapshotKey)
	v := w.repo.Versions()["snapshot"] + 1
	w.files["metadata/"+repo.FileName("snapshot", v)] = snap
	w.files["metadata/timestamp.json"] = forge(w.t, w.current("timestamp"), func(s *timestampT) {
		s.Version++
		s.Meta["snapshot.json"] = info(v, snap)
	}, timestampKey)
}

// refused checks that an update ends in this problem and that the machine has
// on its disk what it had before, and nothing else.
func (w *world) refused(tier string, want code.Code) error {
	w.t.Helper()
	before := w.disk()
	_, err := w.update(tier)
	qt.Assert(w.t, qt.Equals(code.Of(err), want), qt.Commentf("%v", err))
	qt.Assert(w.t, qt.DeepEquals(w.disk(), before))
	x, _, err2 := w.newMachine(w.dir).Cached(tier, buildID, "")
	qt.Assert(w.t, qt.IsNil(err2))
	qt.Assert(w.t, qt.IsNotNil(x)) // it goes on with what it had
	return err
}

// refusedAfterRefresh is the same for an attack that comes below metadata that
// is good: that is kept, as the mark below which nothing goes, and what the
// machine acts by stays.
func (w *world) refusedAfterRefresh(tier string, want code.Code) {
	w.t.Helper()
	was, _, err := w.newMachine(w.dir).Cached(tier, buildID, "")
	qt.Assert(w.t, qt.IsNil(err))
	qt.Assert(w.t, qt.IsNil(w.machine.Refresh(w.t.Context())))
	before := w.disk()
	_, err = w.machine.Index(w.t.Context(), tier, buildID, "")
	qt.Assert(w.t, qt.Equals(code.Of(err), want), qt.Commentf("%v", err))
	qt.Assert(w.t, qt.DeepEquals(w.disk(), before))
	x, _, err := w.newMachine(w.dir).Cached(tier, buildID, "")
	qt.Assert(w.t, qt.IsNil(err))
	qt.Assert(w.t, qt.IsNotNil(x))
	qt.Assert(w.t, qt.DeepEquals(x, was))
}

// attacked is a world whose machine is up to date in both tiers.
func attacked(t testing.TB) *world {
	w := newWorld(t)
	w.ok("stable")
	w.ok("edge")
	return w
}

// next makes the world go on: a newer index in both tiers.
func (w *world) next() {
	w.number++
	w.index("edge", w.number)
	w.index("stable", w.number)
	w.publish()
}

func TestArbitrarySoftware(t *testing.T) {
	t.Run("an index that nobody signed", func(t *testing.T) {
		w := attacked(t)
		w.next()
		evil := w.makeIndex("edge", 99)
		w.answer = func(p string, _ int64) ([]byte, error) {
			if strings.HasPrefix(p, "targets/") {
				return evil, nil
			}
			return nil, nil
		}
		w.refusedAfterRefresh("edge", "TS7115")
	})
	t.Run("a live patch that nobody signed", func(t *testing.T) {
		w := attacked(t)
		evil := bytes.Repeat([]byte("evil"), 100)
		w.answer = func(p string, _ int64) ([]byte, error) {
			if strings.HasSuffix(p, ".age") {
				return evil, nil
			}
			return nil, nil
		}
		before := w.disk()
		_, err := w.machine.Patch(t.Context(), "edge", w.offer)
		qt.Assert(t, qt.Equals(code.Of(err), "TS7115"))
		qt.Assert(t, qt.DeepEquals(w.disk(), before))
	})
	t.Run("a live patch that is in no index", func(t *testing.T) {
		w := attacked(t)
		before := w.disk()
		_, err := w.machine.Patch(t.Context(), "edge", trust.Offer{ID: "evil-v1"})
		qt.Assert(t, qt.Equals(code.Of(err), "TS7117"))
		qt.Assert(t, qt.DeepEquals(w.disk(), before))
	})
	t.Run("a tier's metadata signed by a stranger, with stolen snapshot and timestamp keys", func(t *testing.T) {
		w := attacked(t)
		evil := w.makeIndex("edge", 99)
		role := forge(t, w.current("tier-edge"), func(s *targetsT) {
			s.Version++
			s.Targets[trust.IndexPath("edge", buildID, "")] = entry(evil)
		}, newKey(t))
		w.chain(map[string][]byte{"tier-edge": role}, w.keys["snapshot"], w.keys["timestamp"])
		w.refusedAfterRefresh("edge", "TS7111")
	})
}

func TestRollback(t *testing.T) {
	t.Run("of the timestamp", func(t *testing.T) {
		w := newWorld(t)
		old := w.served()
		w.next()
		w.ok("edge")
		w.files = old
		w.refused("edge", "TS7112")
	})
	t.Run("of the snapshot, by who has the timestamp key", func(t *testing.T) {
		w := newWorld(t)
		oldSnapshot, v := w.current("snapshot"), w.repo.Versions()["snapshot"]
		w.next()
		w.ok("edge")
		w.files["metadata/timestamp.json"] = forge(t, w.current("timestamp"), func(s *timestampT) {
			s.Version++
			s.Meta["snapshot.json"] = info(v, oldSnapshot)
		}, w.keys["timestamp"])
		w.refused("edge", "TS7112")
	})
	for _, role := range []string{"targets", "tier-edge"} {
		t.Run("of "+role+", by who has the snapshot and timestamp keys", func(t *testing.T) {
			w := newWorld(t)
			old, v := w.current(role), w.repo.Versions()[role]
			if role == "targets" {
				qt.Assert(t, qt.IsNil(w.repo.AddTier(repo.Tier{Name: "beta", Keys: []trust.PublicKey{w.keys["tier-edge"].Public()}})))
			}
			w.next()
			w.ok("edge")
			snap := forge(t, w.current("snapshot"), func(s *snapshotT) {
				s.Version++
				s.Meta[role+".json"] = info(v, old)
			}, w.keys["snapshot"])
			n := w.repo.Versions()["snapshot"] + 1
			w.files["metadata/"+repo.FileName("snapshot", n)] = snap
			w.files["metadata/timestamp.json"] = forge(t, w.current("timestamp"), func(s *timestampT) {
				s.Version++
				s.Meta["snapshot.json"] = info(n, snap)
			}, w.keys["timestamp"])
			w.refused("edge", "TS7112")
		})
	}
	t.Run("by a snapshot that forgets a tier", func(t *testing.T) {
		w := attacked(t)
		snap := forge(t, w.current("snapshot"), func(s *snapshotT) {
			s.Version++
			delete(s.Meta, "tier-edge.json")
		}, w.keys["snapshot"])
		n := w.repo.Versions()["snapshot"] + 1
		w.files["metadata/"+repo.FileName("snapshot", n)] = snap
		w.files["metadata/timestamp.json"] = forge(t, w.current("timestamp"), func(s *timestampT) {
			s.Version++
			s.Meta["snapshot.json"] = info(n, snap)
		}, w.keys["timestamp"])
		w.refused("edge", "TS7112")
	})
	t.Run("of the index, by who has the tier's key", func(t *testing.T) {
		w := newWorld(t)
		w.number = 5
		w.next()
		qt.Assert(t, qt.Equals(w.ok("edge").Sequence, 6))
		w.index("edge", 3) // the role itself goes on
		w.publish()
		w.refusedAfterRefresh("edge", "TS7118")
		w.index("edge", 7)
		w.publish()
		qt.Assert(t, qt.Equals(w.ok("edge").Sequence, 7))
	})
	t.Run("of the root", func(t *testing.T) {
		w := newWorld(t)
		w.rotate("timestamp")
		w.ok("edge")
		w.files["metadata/3.root.json"] = w.files["metadata/1.root.json"]
		w.refused("edge", "TS7112")
	})
}

// rotate gives a role a new key by a new root, as people do it.
func (w *world) rotate(roles ...string) {
	w.t.Helper()
	old := w.keys["root"]
	for _, r := range roles {
		w.keys[r] = newKey(w.t)
	}
	present, err := repo.ReadRoot(w.repo.Root())
	qt.Assert(w.t, qt.IsNil(err))
	next, err := w.spec(present.Version + 1).Bytes()
	qt.Assert(w.t, qt.IsNil(err))
	next, err = repo.SignRoot(next, old, w.keys["root"])
	qt.Assert(w.t, qt.IsNil(err))
	var ring repo.Keyring
	for role, k := range w.keys {
		if role != "root" {
			ring = append(ring, k)
		}
	}
	w.repo.UseKeys(ring)
	qt.Assert(w.t, qt.IsNil(w.repo.ImportRoot(next, w.now)))
	w.publish()
}

func TestIndefiniteFreeze(t *testing.T) {
	t.Run("the timestamp has expired", func(t *testing.T) {
		w := attacked(t)
		w.now = w.now.Add(25 * time.Hour)
		w.server = w.now // the server's clock agrees
		err := w.refused("edge", "TS7113")
		qt.Check(t, qt.StringContains(err.Error(), "2026-11-23 00:00:00"))
	})
	t.Run("a new timestamp for an expired snapshot, by who has the timestamp key", func(t *testing.T) {
		w := attacked(t)
		w.now = w.now.Add(8 * 24 * time.Hour)
		w.files["metadata/timestamp.json"] = forge(t, w.current("timestamp"), func(s *timestampT) {
			s.Version++
			s.Expires = w.now.Add(time.Hour)
		}, w.keys["timestamp"])
		err := w.refused("edge", "TS7113")
		qt.Check(t, qt.StringContains(err.Error(), "snapshot.json"))
	})
	t.Run("a tier that is kept old, by who has the timestamp and snapshot keys", func(t *testing.T) {
		w := attacked(t)
		w.now = w.now.Add(91 * 24 * time.Hour)
		snap := forge(t, w.current("snapshot"), func(s *snapshotT) { s.Version++; s.Expires = w.now.Add(time.Hour) }, w.keys["snapshot"])
		n := w.repo.Versions()["snapshot"] + 1
		w.files["metadata/"+repo.FileName("snapshot", n)] = snap
		w.files["metadata/timestamp.json"] = forge(t, w.current("timestamp"), func(s *timestampT) {
			s.Version++
			s.Expires = w.now.Add(time.Hour)
			s.Meta["snapshot.json"] = info(n, snap)
		}, w.keys["timestamp"])
		w.refused("edge", "TS7113")
	})
	t.Run("a new machine is shown only the past", func(t *testing.T) {
		w := newWorld(t)
		old := w.served()
		w.now = w.now.Add(48 * time.Hour)
		w.next()
		w.files = old
		_, err := w.update("edge")
		qt.Assert(t, qt.Equals(code.Of(err), "TS7113"))
	})
}

func TestExpiredMetadataOfEachRole(t *testing.T) {
	for role, life := range map[string]time.Duration{"root": repo.DefaultLifetimes().Root, "targets": 90 * 24 * time.Hour} {
		t.Run(role, func(t *testing.T) {
			w := attacked(t)
			w.now = w.now.Add(life - time.Hour)
			w.repo.Advance(w.now) // everything is signed anew
			if role == "targets" {
				// but for the targets role, which ends in an hour
				w = attacked(t)
				w.now = w.now.Add(life + time.Hour)
				short := forge(t, w.current("targets"), func(s *targetsT) { s.Version++; s.Expires = w.now.Add(-time.Minute) }, w.keys["targets"])
				snap := forge(t, w.current("snapshot"), func(s *snapshotT) {
					s.Version++
					s.Expires = w.now.Add(time.Hour)
					s.Meta["targets.json"] = info(w.repo.Versions()["targets"]+1, short)
				}, w.keys["snapshot"])
				w.files["metadata/"+repo.FileName("targets", w.repo.Versions()["targets"]+1)] = short
				n := w.repo.Versions()["snapshot"] + 1
				w.files["metadata/"+repo.FileName("snapshot", n)] = snap
				w.files["metadata/timestamp.json"] = forge(t, w.current("timestamp"), func(s *timestampT) {
					s.Version++
					s.Expires = w.now.Add(time.Hour)
					s.Meta["snapshot.json"] = info(n, snap)
				}, w.keys["timestamp"])
			} else {
				w.publish()
				w.ok("edge")
				w.ok("stable")
				w.now = w.now.Add(2 * time.Hour)
			}
			err := w.refused("edge", "TS7113")
			qt.Check(t, qt.StringContains(err.Error(), role+".json"))
		})
	}
}

func TestEndlessData(t *testing.T) {
	for _, what := range []string{"2.root.json", "timestamp.json", "snapshot.json", "tier-edge.json"} {
		t.Run(what, func(t *testing.T) {
			w := attacked(t)
			w.next()
			w.answer = func(p string, max int64) ([]byte, error) {
				if !strings.HasSuffix(p, what) {
					return nil, nil
				}
				return updater.FSSource{FS: endless{}}.Fetch(t.Context(), p, max)
			}
			if what == "tier-edge.json" {
				w.refusedAfterRefresh("edge", "TS7114")
			} else {
				w.refused("edge", "TS7114")
			}
		})
	}
	t.Run("a live patch", func(t *testing.T) {
		w := attacked(t)
		w.answer = func(p string, max int64) ([]byte, error) {
			return updater.FSSource{FS: endless{}}.Fetch(t.Context(), p, max)
		}
		_, err := w.machine.Patch(t.Context(), "edge", w.offer)
		qt.Assert(t, qt.Equals(code.Of(err), "TS7114"))
	})
	t.Run("a length that no live patch has", func(t *testing.T) {
		w := attacked(t)
		role := forge(t, w.current("tier-edge"), func(s *targetsT) {
			s.Version++
			s.Targets[trust.PatchPath("edge", w.offer.ID)].Length = 1 << 50
		}, w.keys["tier-edge"])
		w.chain(map[string][]byte{"tier-edge": role}, w.keys["snapshot"], w.keys["timestamp"])
		w.ok("edge")
		_, err := w.machine.Patch(t.Context(), "edge", w.offer)
		qt.Assert(t, qt.Equals(code.Of(err), "TS7121"))
	})
}

func TestMixAndMatch(t *testing.T) {
	// All files are real and signed, but of different times.
	for _, role := range []string{"snapshot", "targets"} {
		t.Run("an older "+role+" under the new name", func(t *testing.T) {
			w := attacked(t)
			old := w.current(role)
			if role == "targets" {
				qt.Assert(t, qt.IsNil(w.repo.AddTier(repo.Tier{Name: "beta", Keys: []trust.PublicKey{w.keys["tier-edge"].Public()}})))
			}
			w.next()
			w.files[w.name(role)] = old
			w.refused("edge", "TS7115")
		})
	}
	t.Run("an older tier under the new name", func(t *testing.T) {
		w := attacked(t)
		old := w.current("tier-edge")
		w.next()
		w.files[w.name("tier-edge")] = old
		w.refusedAfterRefresh("edge", "TS7115")
	})
	t.Run("one tier's metadata for another", func(t *testing.T) {
		w := attacked(t)
		w.next()
		w.files[w.name("tier-stable")] = w.current("tier-edge")
		w.refusedAfterRefresh("stable", "TS7115")
	})
	t.Run("a file that is not there", func(t *testing.T) {
		w := attacked(t)
		w.next()
		delete(w.files, w.name("snapshot"))
		w.refused("edge", "TS7115")
	})
	t.Run("the index of another kernel, signed by the tier", func(t *testing.T) {
		w := attacked(t)
		b := bytes.Replace(w.makeIndex("edge", 9), []byte(buildID), []byte(strings.Repeat("cd", 20)), 1)
		w.put("edge", trust.IndexPath("edge", buildID, ""), b)
		w.publish()
		w.refusedAfterRefresh("edge", "TS7115")
	})
	t.Run("the index of another policy, signed by the tier", func(t *testing.T) {
		w := attacked(t)
		w.put("edge", trust.IndexPath("edge", buildID, "databases"), w.makeIndex("edge", 9))
		w.publish()
		qt.Assert(t, qt.IsNil(w.machine.Refresh(t.Context())))
		_, err := w.machine.Index(t.Context(), "edge", buildID, "databases")
		qt.Check(t, qt.Equals(code.Of(err), "TS7115"))
	})
}

// TestPoliciesHaveFloorsOfTheirOwn: the numbers of one policy's indexes say
// nothing about those of another.
func TestPoliciesHaveFloorsOfTheirOwn(t *testing.T) {
	w := attacked(t)
	of := func(policy string, sequence int64) (*trust.Index, error) {
		x, err := trust.ParseIndex(w.makeIndex("edge", sequence))
		qt.Assert(t, qt.IsNil(err))
		x.Policy = policy
		b, err := x.Bytes()
		qt.Assert(t, qt.IsNil(err))
		w.put("edge", trust.IndexPath("edge", buildID, policy), b)
		w.publish()
		qt.Assert(t, qt.IsNil(w.machine.Refresh(t.Context())))
		return w.machine.Index(t.Context(), "edge", buildID, policy)
	}
	for _, c := range []struct {
		policy   string
		sequence int64
	}{{"", 50}, {"databases", 3}, {"web", 2}, {"databases", 4}} {
		x, err := of(c.policy, c.sequence)
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%+v", c))
		qt.Check(t, qt.Equals(x.Policy, c.policy))
		kept, _, err := w.newMachine(w.dir).Cached("edge", buildID, c.policy)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(kept.Sequence, c.sequence))
	}
	_, err := of("databases", 3)
	qt.Check(t, qt.Equals(code.Of(err), "TS7118"))
}

func TestWrongKey(t *testing.T) {
	stranger := newKey(t)
	for role, f := range map[string]func(w *world) []byte{
		"timestamp": func(w *world) []byte {
			return forge(t, w.current("timestamp"), func(s *timestampT) { s.Version++ }, stranger)
		},
		"timestamp with the stranger's signature under the right id": func(w *world) []byte {
			b := forge(t, w.current("timestamp"), func(s *timestampT) { s.Version++ }, stranger)
			return bytes.ReplaceAll(b, []byte(stranger.ID()), []byte(w.keys["timestamp"].ID()))
		},
		"timestamp signed by the snapshot key": func(w *world) []byte {
			return forge(t, w.current("timestamp"), func(s *timestampT) { s.Version++ }, w.keys["snapshot"])
		},
		"timestamp without a signature": func(w *world) []byte {
			return forge(t, w.current("timestamp"), func(s *timestampT) { s.Version++ })
		},
	} {
		t.Run(role, func(t *testing.T) {
			w := attacked(t)
			w.files["metadata/timestamp.json"] = f(w)
			w.refused("edge", "TS7111")
		})
	}
	t.Run("root signed by a stranger", func(t *testing.T) {
		w := attacked(t)
		w.files["metadata/2.root.json"] = forge(t, w.repo.Root(), func(s *rootT) { s.Version++ }, stranger)
		w.refused("edge", "TS7111")
	})
	t.Run("root that makes a stranger its key, signed by that one alone", func(t *testing.T) {
		w := attacked(t)
		mine := w.spec(2)
		mine.Roles["root"] = repo.Role{Keys: []trust.PublicKey{stranger.Public()}, Threshold: 1}
		b, err := mine.Bytes()
		qt.Assert(t, qt.IsNil(err))
		w.files["metadata/2.root.json"], err = repo.SignRoot(b, stranger)
		qt.Assert(t, qt.IsNil(err))
		w.refused("edge", "TS7111")
	})
	t.Run("root that makes a stranger its key, not signed by that one", func(t *testing.T) {
		w := attacked(t)
		mine := w.spec(2)
		mine.Roles["root"] = repo.Role{Keys: []trust.PublicKey{stranger.Public()}, Threshold: 1}
		b, err := mine.Bytes()
		qt.Assert(t, qt.IsNil(err))
		w.files["metadata/2.root.json"], err = repo.SignRoot(b, w.keys["root"])
		qt.Assert(t, qt.IsNil(err))
		w.refused("edge", "TS7111")
	})
	t.Run("root below its threshold", func(t *testing.T) {
		w := newWorld(t)
		second := newKey(t)
		two := w.spec(2)
		two.Roles["root"] = repo.Role{Keys: []trust.PublicKey{w.keys["root"].Public(), second.Public()}, Threshold: 2}
		b, err := two.Bytes()
		qt.Assert(t, qt.IsNil(err))
		b, err = repo.SignRoot(b, w.keys["root"], second)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(w.repo.ImportRoot(b, w.now)))
		w.publish()
		w.ok("edge")
		for _, k := range []*trust.Key{w.keys["root"], second} {
			w.files["metadata/3.root.json"] = forge(t, b, func(s *rootT) { s.Version++ }, k)
			w.refused("edge", "TS7111")
		}
	})
	t.Run("targets that make a stranger the tier's key, signed by the tier's old key", func(t *testing.T) {
		w := attacked(t)
		b := forge(t, w.current("targets"), func(s *targetsT) {
			s.Version++
			s.Delegations.Roles[0].KeyIDs = []string{stranger.ID()}
			s.Delegations.Keys[stranger.ID()] = &metadata.Key{Type: "ed25519", Scheme: "ed25519", Value: metadata.KeyVal{PublicKey: fmt.Sprintf("%x", []byte(stranger.Public().Bytes()))}}
		}, w.keys["tier-edge"])
		w.chain(map[string][]byte{"targets": b}, w.keys["snapshot"], w.keys["timestamp"])
		w.refused("edge", "TS7111")
	})
}

func TestAStableMachineDoesNotTakeWhatOnlyTheEdgeTierSigned(t *testing.T) {
	w := attacked(t)
	evil := w.makeIndex("stable", 99)
	path := trust.IndexPath("stable", buildID, "")
	patch := trust.PatchPath("stable", w.offer.ID)
	w.files["targets/"+repo.TargetOf(evil).FilePath(path)] = evil
	// Who has the edge tier's key, and with the server also those of snapshot
	// and timestamp, signs for paths of the stable tier.
	role := forge(t, w.current("tier-edge"), func(s *targetsT) {
		s.Version++
		s.Targets[path] = entry(evil)
		s.Targets[patch] = s.Targets[trust.PatchPath("edge", w.offer.ID)]
	}, w.keys["tier-edge"])
	w.chain(map[string][]byte{"tier-edge": role}, w.keys["snapshot"], w.keys["timestamp"])
	x := w.ok("stable")
	qt.Assert(t, qt.Equals(x.Sequence, 1)) // what the stable tier's key signed
	before := w.disk()
	_, err := w.machine.Patch(t.Context(), "stable", w.offer)
	qt.Assert(t, qt.Equals(code.Of(err), "TS7117"))
	qt.Assert(t, qt.DeepEquals(w.disk(), before))
	// Nor does it help to delegate from the edge role.
	role = forge(t, role, func(s *targetsT) {
		s.Delegations = &metadata.Delegations{
			Keys:  map[string]*metadata.Key{},
			Roles: []metadata.DelegatedRole{{Name: "tier-stable", KeyIDs: []string{w.keys["tier-edge"].ID()}, Threshold: 1, Paths: []string{"stable/*"}, Terminating: true}},
		}
	}, w.keys["tier-edge"])
	w.chain(map[string][]byte{"tier-edge": role}, w.keys["snapshot"], w.keys["timestamp"])
	w.machine = w.newMachine(w.dir)
	qt.Assert(t, qt.Equals(w.ok("stable").Sequence, 1))
}

func TestAStolenKeyIsWorthNothingAfterItsRotation(t *testing.T) {
	for _, role := range []string{"timestamp", "snapshot", "targets", "root"} {
		t.Run(role, func(t *testing.T) {
			w := attacked(t)
			stolen := w.keys[role]
			w.rotate(role)
			w.next()
			w.ok("stable")
			w.ok("edge")
			switch role {
			case "timestamp":
				w.files["metadata/timestamp.json"] = forge(t, w.current(role), func(s *timestampT) { s.Version++ }, stolen)
			case "snapshot":
				w.chain(nil, stolen, w.keys["timestamp"])
			case "targets":
				b := forge(t, w.current(role), func(s *targetsT) { s.Version++ }, stolen)
				w.chain(map[string][]byte{role: b}, w.keys["snapshot"], w.keys["timestamp"])
			case "root":
				w.files["metadata/3.root.json"] = forge(t, w.repo.Root(), func(s *rootT) { s.Version++ }, stolen)
			}
			w.refused("edge", "TS7111")
		})
	}
	t.Run("tier", func(t *testing.T) {
		w := attacked(t)
		stolen := w.keys["tier-edge"]
		w.keys["tier-edge"] = newKey(t)
		w.useKeys()
		qt.Assert(t, qt.IsNil(w.repo.RotateTier("edge", []trust.PublicKey{w.keys["tier-edge"].Public()})))
		w.next()
		w.ok("stable")
		w.ok("edge")
		b := forge(t, w.current("tier-edge"), func(s *targetsT) { s.Version++ }, stolen)
		w.chain(map[string][]byte{"tier-edge": b}, w.keys["snapshot"], w.keys["timestamp"])
		w.refusedAfterRefresh("edge", "TS7111")
	})
}

func (w *world) useKeys() {
	var ring repo.Keyring
	for role, k := range w.keys {
		if role != "root" {
			ring = append(ring, k)
		}
	}
	w.repo.UseKeys(ring)
}

func TestMachinesRecoverWhenAThiefHasRunAhead(t *testing.T) {
	const far = 1 << 40
	t.Run("with timestamp and snapshot keys", func(t *testing.T) {
		w := attacked(t)
		good := w.served()
		snap := forge(t, w.current("snapshot"), func(s *snapshotT) {
			s.Version = far
			s.Meta["targets.json"].Version = far
		}, w.keys["snapshot"])
		w.files["metadata/"+repo.FileName("snapshot", far)] = snap
		w.files["metadata/timestamp.json"] = forge(t, w.current("timestamp"), func(s *timestampT) {
			s.Version = far
			s.Meta["snapshot.json"] = info(far, snap)
		}, w.keys["timestamp"])
		w.refused("edge", "TS7115") // a targets role of that version is nowhere
		// The thief can make the machine keep a far timestamp only with all
		// that belongs to it.
		snap = forge(t, w.current("snapshot"), func(s *snapshotT) { s.Version = far }, w.keys["snapshot"])
		w.files["metadata/"+repo.FileName("snapshot", far)] = snap
		w.files["metadata/timestamp.json"] = forge(t, w.current("timestamp"), func(s *timestampT) {
			s.Version = far
			s.Meta["snapshot.json"] = info(far, snap)
		}, w.keys["timestamp"])
		w.ok("edge")
		w.ok("stable")

		w.files = good
		w.next()
		w.refused("edge", "TS7112") // the honest server is behind
		w.rotate("timestamp", "snapshot")
		w.next()
		qt.Assert(t, qt.Equals(w.ok("edge").Sequence, w.number)) // and is followed again
	})
	t.Run("with the tier's key, in the number of the index", func(t *testing.T) {
		w := attacked(t)
		w.index("edge", far)
		w.publish()
		qt.Assert(t, qt.Equals(w.ok("edge").Sequence, far))
		w.next()
		w.refusedAfterRefresh("edge", "TS7118")
		w.keys["tier-edge"] = newKey(t)
		w.useKeys()
		qt.Assert(t, qt.IsNil(w.repo.RotateTier("edge", []trust.PublicKey{w.keys["tier-edge"].Public()})))
		w.next()
		qt.Assert(t, qt.Equals(w.ok("edge").Sequence, w.number))
	})
}

func TestAWrongClockIsNamed(t *testing.T) {
	for name, clock := range map[string]time.Time{"years ahead": start.AddDate(4, 0, 0), "days ahead": start.Add(26 * time.Hour)} {
		t.Run(name, func(t *testing.T) {
			w := attacked(t)
			w.server, w.now = w.now, clock
			err := w.refused("edge", "TS7119")
			qt.Check(t, qt.StringContains(err.Error(), clock.Format(time.DateOnly)))
			qt.Check(t, qt.StringContains(err.Error(), start.Format(time.DateOnly)))
		})
	}
	t.Run("years behind", func(t *testing.T) {
		w := attacked(t)
		w.server, w.now = w.now, start.AddDate(-20, 0, 0)
		w.refused("edge", "TS7119")
	})
	t.Run("years behind, and the server's time is not known", func(t *testing.T) {
		w := attacked(t)
		w.now = start.AddDate(-20, 0, 0)
		w.refused("edge", "TS7119") // it was later when this machine refreshed last
	})
	t.Run("a little", func(t *testing.T) {
		w := attacked(t)
		w.server, w.now = w.now, w.now.Add(-3*time.Minute)
		w.next()
		w.ok("edge")
	})
}

func TestEveryFetchIsBounded(t *testing.T) {
	w := newWorld(t)
	var bounds []int64
	w.answer = func(_ string, max int64) ([]byte, error) { bounds = append(bounds, max); return nil, nil }
	w.ok("edge")
	_, err := w.machine.Patch(t.Context(), "edge", w.offer)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(slices.Max(bounds) < 1<<20), qt.Commentf("%v", bounds))
}
