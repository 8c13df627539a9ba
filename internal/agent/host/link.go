// SPDX-License-Identifier: Apache-2.0

package host

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/updater"
)

// Link speaks to a server and follows its repository.
type Link struct {
	Dir     string // of the updater: the state directory's tuf
	Proxy   string // as agent.Config has it
	CAFile  string
	Version string // for the server's logs
}

// proxy in the client's words.
func (l Link) proxy() string {
	if l.Proxy == "direct" {
		return "none"
	}
	return l.Proxy
}

// http makes a client that trusts the CA of the enrolment and that of the
// configuration; with neither, the system's.
func (l Link) http(ca []byte) (*http.Client, error) {
	trusted := slices.Clone(ca)
	if l.CAFile != "" {
		b, err := os.ReadFile(l.CAFile)
		if err != nil {
			return nil, code.New("TS9401", "ca_file", "").With(err)
		}
		trusted = slices.Concat(trusted, []byte("\n"), b)
	}
	return client.NewHTTP(client.HTTPOptions{CA: trusted, Proxy: l.proxy(), IdleConns: 2})
}

func (l Link) client(server, credential string, httpc *http.Client) (*client.Client, error) {
	return client.New(client.Options{URL: server, Credential: credential, HTTP: httpc, UserAgent: "tsugi/" + cmp.Or(l.Version, "devel")})
}

func (l Link) updater(server string, httpc *http.Client) (*updater.Updater, error) {
	return updater.New(updater.Options{Dir: l.Dir, BaseURL: server + "/tuf", HTTP: httpc})
}

// enrollLimit bounds the enrolment, which is three small requests.
const enrollLimit = time.Minute

// Enroll makes the machine known. Nothing that the server says is believed
// before the CA and the root are what their digests say.
func (l Link) Enroll(ctx context.Context, e agent.Enrollment, req api.EnrollRequest) (*agent.Machine, error) {
	ctx, cancel := context.WithTimeout(ctx, enrollLimit)
	defer cancel()
	ca := e.CA
	if ca == nil && e.CADigest != "" {
		b, err := client.FetchCA(ctx, e.Server, e.CADigest, l.proxy())
		if err != nil {
			return nil, err
		}
		ca = b
	}
	httpc, err := l.http(ca)
	if err != nil {
		return nil, err
	}
	defer httpc.CloseIdleConnections()
	c, err := l.client(e.Server, "", httpc)
	if err != nil {
		return nil, err
	}
	root := e.Root
	if root == nil {
		if root, err = c.Root(ctx); err != nil {
			return nil, err
		}
	}
	if got := digest(root); e.RootDigest != "" && got != e.RootDigest {
		return nil, code.New("TS7111", e.Server, "its first root has the digest "+got+", "+e.RootDigest+" was expected")
	}
	u, err := l.updater(e.Server, httpc)
	if err != nil {
		return nil, err
	}
	if e.Fresh {
		if err := l.Forget(); err != nil {
			return nil, err
		}
	}
	if err := u.Bootstrap(root); err != nil {
		return nil, err
	}
	ans, err := c.Enroll(ctx, req)
	if err == nil && (ans.Machine == "" || ans.Credential == "" || ans.Tier == "") {
		err = code.New("TS7614", e.Server, "the answer to the enrolment lacks an id, a credential or a tier")
	}
	if err != nil {
		if e.Fresh {
			err = errors.Join(err, l.Forget())
		}
		return nil, err
	}
	return &agent.Machine{
		ID: ans.Machine, Server: e.Server, Credential: agent.Credential(ans.Credential), Tier: ans.Tier, Group: ans.Group,
		CA: string(ca), Root: digest(root),
	}, nil
}

// Open makes the two connections of an enrolment; nothing is sent.
func (l Link) Open(m *agent.Machine) (agent.Server, agent.Source, error) {
	httpc, err := l.http([]byte(m.CA))
	if err != nil {
		return nil, nil, err
	}
	c, err := l.client(m.Server, string(m.Credential), httpc)
	if err != nil {
		return nil, nil, err
	}
	u, err := l.updater(m.Server, httpc)
	if err != nil {
		return nil, nil, err
	}
	if !u.Pinned() {
		return nil, nil, code.New("TS7110", l.Dir, "")
	}
	return server{c}, u, nil
}

// Forget drops the pinned root and all that it vouched for.
func (l Link) Forget() error {
	if err := os.RemoveAll(l.Dir); err != nil {
		return code.New("TS9402", l.Dir, "").With(err)
	}
	d, err := os.Open(filepath.Dir(l.Dir))
	if err != nil {
		return code.New("TS9402", l.Dir, "").With(err)
	}
	defer d.Close()
	return d.Sync()
}

// server is the API client in the agent's words.
type server struct{ c *client.Client }

func (s server) CheckIn(ctx context.Context, c api.CheckIn, etag string) (*api.Assignment, string, error) {
	return s.c.CheckIn(ctx, c, etag)
}

func (s server) Wait(ctx context.Context, etag string, timeout time.Duration) (bool, error) {
	return s.c.Wait(ctx, etag, timeout)
}

func (s server) Reports(ctx context.Context, r []api.Report) ([]string, error) {
	return s.c.Report(ctx, r)
}

// Leave: a server that does not know the machine any more is content.
func (s server) Leave(ctx context.Context) error {
	err := s.c.Unenroll(ctx)
	if client.Status(err) == http.StatusUnauthorized {
		return nil
	}
	return err
}

// Crypt is age.
type Crypt struct{}

// NewIdentity makes a key pair.
func (Crypt) NewIdentity() (secret, recipient string, err error) {
	id, err := trust.NewIdentity()
	if err != nil {
		return "", "", err
	}
	return id.Secret(), id.Recipient(), nil
}

// maxPlain bounds a decrypted live patch.
const maxPlain = api.MaxArtifact

// Decrypt opens a live patch.
func (Crypt) Decrypt(cipher []byte, wrapped, secret string) ([]byte, error) {
	id, err := trust.ParseIdentity(secret)
	if err != nil {
		return nil, err
	}
	key, err := trust.Unwrap(wrapped, id)
	if err != nil {
		return nil, err
	}
	return trust.Open(cipher, key, maxPlain)
}

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// Recipient is the public half of an identity.
func (Crypt) Recipient(secret string) (string, error) {
	id, err := trust.ParseIdentity(secret)
	if err != nil {
		return "", err
	}
	return id.Recipient(), nil
}

// Bundle reads an offline bundle. What it holds is verified by what this
// machine trusts, as if it came over the network.
func (l Link) Bundle(_ context.Context, file []byte, recipient string) (agent.Source, *agent.BundleInfo, error) {
	b, err := trust.ReadBundle(file)
	if err != nil {
		return nil, nil, err
	}
	keys, err := b.Keys(recipient)
	if err != nil {
		return nil, nil, err
	}
	u, err := updater.New(updater.Options{Dir: l.Dir, Source: b})
	if err != nil {
		return nil, nil, err
	}
	return u, &agent.BundleInfo{Tier: b.Info.Tier, Policy: b.Info.Policy(recipient), Keys: keys}, nil
}
