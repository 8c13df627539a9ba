// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tsugi-project/tsugi/internal/code"
)

// S3Config names a bucket of an S3-compatible store.
type S3Config struct {
	Endpoint  string // "s3.example.net" or "host:9000"
	Bucket    string // must be there
	Prefix    string // put before all names, "" or "tsugi"
	Region    string
	AccessKey string // "": from the environment (AWS_…) or the instance's role
	SecretKey string
	Insecure  bool   // http; for a store on this machine or in tests
	CA        []byte // PEM: trusted beside the system's; nil: those alone
}

// S3 keeps blobs in a bucket.
type S3 struct {
	client *minio.Client
	bucket string
	prefix string
}

// OpenS3 opens a bucket and looks whether it can be used.
func OpenS3(ctx context.Context, c S3Config) (*S3, error) {
	where := c.Endpoint + "/" + c.Bucket
	transport, err := transport(c)
	if err != nil {
		return nil, code.New("TS7415", where, "").With(err)
	}
	creds := credentials.NewStaticV4(c.AccessKey, c.SecretKey, "")
	if c.AccessKey == "" {
		creds = credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.IAM{},
		})
	}
	client, err := minio.New(c.Endpoint, &minio.Options{Creds: creds, Secure: !c.Insecure, Region: c.Region, Transport: transport})
	if err != nil {
		return nil, code.New("TS7415", where, "").With(err)
	}
	s := &S3{client: client, bucket: c.Bucket}
	if p := strings.Trim(c.Prefix, "/"); p != "" {
		if err := CheckName(p); err != nil {
			return nil, err
		}
		s.prefix = p + "/"
	}
	there, err := client.BucketExists(ctx, c.Bucket)
	if err != nil {
		return nil, code.New("TS7415", where, "").With(err)
	}
	if !there {
		return nil, code.New("TS7415", where, "there is no such bucket")
	}
	return s, nil
}

func transport(c S3Config) (*http.Transport, error) {
	t, err := minio.DefaultTransport(!c.Insecure)
	if err != nil || c.CA == nil {
		return t, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(c.CA) {
		return nil, errors.New("no certificate in the given CA")
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// inMemory is up to where a blob is read whole before it is sent, so that
// sending it can be tried again; larger ones go in parts, each of them so.
const (
	inMemory = 5 << 20
	partSize = 8 << 20 // S3 wants 5 MiB at least
)

// Put stores a blob: see Store.
func (s *S3) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	if err := CheckName(name); err != nil {
		return err
	}
	r = sized(r, name, size)
	if size < inMemory {
		// Also when the size is not known: then until it turns out larger.
		head, err := io.ReadAll(io.LimitReader(r, inMemory))
		if err != nil {
			return err
		}
		if len(head) < inMemory {
			r, size = bytes.NewReader(head), int64(len(head))
		} else {
			r = io.MultiReader(bytes.NewReader(head), r)
		}
	}
	_, err := s.client.PutObject(ctx, s.bucket, s.prefix+name, r, size, minio.PutObjectOptions{
		ContentType: "application/octet-stream", PartSize: partSize,
		// Over http minio-go would sign the payload as a stream, which not
		// all stores take in parts; over https it never does.
		DisableContentSha256: true,
	})
	return s.problem(name, err)
}

// Open opens a blob: see Store. Bytes come as they are read; once the blob is
// replaced, reading an old one ends with an error.
func (s *S3) Open(ctx context.Context, name string) (io.ReadSeekCloser, Info, error) {
	if err := CheckName(name); err != nil {
		return nil, Info{}, err
	}
	o, err := s.client.GetObject(ctx, s.bucket, s.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, Info{}, s.problem(name, err)
	}
	i, err := o.Stat()
	if err != nil {
		return nil, Info{}, errors.Join(s.problem(name, err), o.Close())
	}
	return o, Info{Name: name, Size: i.Size, Modified: i.LastModified}, nil
}

// Stat describes a blob: see Store.
func (s *S3) Stat(ctx context.Context, name string) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	i, err := s.client.StatObject(ctx, s.bucket, s.prefix+name, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, s.problem(name, err)
	}
	return Info{Name: name, Size: i.Size, Modified: i.LastModified}, nil
}

// List gives blobs: see Store.
func (s *S3) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if !startsNames(prefix) {
			return
		}
		for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}) {
			if o.Err != nil {
				yield(Info{}, s.problem(prefix, o.Err))
				return
			}
			name := strings.TrimPrefix(o.Key, s.prefix)
			if CheckName(name) != nil {
				continue // not ours
			}
			if !yield(Info{Name: name, Size: o.Size, Modified: o.LastModified}, nil) {
				return
			}
		}
	}
}

// Delete removes a blob: see Store.
func (s *S3) Delete(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	err := s.problem(name, s.client.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{}))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// problem says what an error of the store means.
func (s *S3) problem(name string, err error) error {
	var p *code.Problem
	switch {
	case err == nil || errors.As(err, &p) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case minio.ToErrorResponse(err).Code == minio.NoSuchKey:
		return fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return code.New("TS7415", s.bucket+"/"+s.prefix+name, "").With(err)
}
