package sockets

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/containers/podman/v4/pkg/specgen"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/fuzz"
)

const (
	// maxText is how long a text is that was made printable, bytes, and maxError an error about an answer, which also says
	// what was asked for.
	maxText  = maxMessage + len("…")
	maxError = maxText + 100
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answering is a client of a podman that gives this answer to everything.
func answering(status int, body []byte) *Client {
	c := newClient("host user x", time.Minute, nil)
	c.http.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}, nil
	})
	return c
}

// podmanID is the form of podman's IDs.
var podmanID = regexp.MustCompile("^[0-9a-f]{64}$")

// perByte is what a byte of an answer may cost: an element of a list takes two.
const perByte = 256

// inspected is what podman 5.4 tells of a running container, shortened.
const inspected = `{"Id":"abc","Created":"2026-01-02T03:04:05.6Z","Path":"redis-server","Args":["redis-server"],"State":{"OciVersion":"1.2.0",
"Status":"running","Running":true,"OOMKilled":false,"Pid":42,"ConmonPid":41,"ExitCode":0,"Error":"","StartedAt":"2026-01-02T03:04:05.6Z",
"FinishedAt":"0001-01-01T00:00:00Z","CgroupPath":"/user.slice/user-1001.slice/user@1001.service/user.slice/libpod-abc.scope"},
"ImageName":"docker.io/library/redis:7","Name":"redis-7f","Mounts":[{"Type":"bind","Source":"/srv","Destination":"/srv","RW":true}],
"EffectiveCaps":["CAP_CHOWN"],"NetworkSettings":{"IPAddress":"10.88.0.2","Ports":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}},
"Config":{"Labels":{"com.hashicorp.nomad.alloc_id":"7f"},"Entrypoint":["docker-entrypoint.sh"],"StopSignal":"SIGTERM"},
"HostConfig":{"LogConfig":{"Type":"k8s-file","Path":"/home/x/ctr.log","Size":"0B"},"Privileged":false}}`

// What of a description gets into messages and into what Nomad keeps is short, and it is about the container.
func FuzzInspect(f *testing.F) {
	f.Add([]byte(inspected))
	f.Add([]byte(`{"Id":"abc","State":{"CgroupPath":null,"Pid":-1,"StartedAt":"","ExitCode":1e9},"Config":{"StopSignal":15,"Labels":{"a":"b"}}}`))
	f.Add([]byte(`{"Name":"abc","Config":{"StopSignal":{}},"HostConfig":{"LogConfig":{"Path":["\u001b[31m"]}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c := answering(http.StatusOK, body)
		var container *Container
		var err error
		fuzz.Cheap(t, len(body), perByte, func() { container, err = c.Inspect(t.Context(), "abc") })
		if err != nil {
			fuzz.Line(t, err.Error(), maxError)
			return
		}
		must.True(t, container.ID == "abc" || container.Name == "abc")
		for _, kept := range []string{
			container.ID, container.State.CgroupPath, container.HostConfig.LogConfig.Path, string(container.Config.StopSignal),
			container.NetworkSettings.IPAddress,
		} {
			must.LessEq(t, maxPath, len(kept))
		}
	})
}

func FuzzList(f *testing.F) {
	f.Add([]byte(`[{"Id":"abc","Names":["redis-7f"],"Labels":{"com.hashicorp.nomad.alloc_id":"7f"},"State":"running","Created":"2026-01-02T03:04:05.6Z","Mounts":["/srv"]},{"Id":"x"}]`))
	f.Add([]byte("[{},{}]"))
	f.Add([]byte(`[[[]],{"Names":[null]}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c := answering(http.StatusOK, body)
		var listed []ContainerSummary
		var err error
		fuzz.Cheap(t, len(body), perByte, func() { listed, err = c.List(t.Context(), nil) })
		if err != nil {
			fuzz.Line(t, err.Error(), maxError)
		}
		must.LessEq(t, maxListed, len(listed))
		if empty, err := c.isEmpty(t.Context()); err == nil && empty {
			must.LessEq(t, 1, len(listed))
		}
	})
}

func FuzzInfo(f *testing.F) {
	f.Add([]byte(`{"host":{"cgroupVersion":"v2","cgroupManager":"systemd","ociRuntime":{"name":"crun","path":"/usr/bin/crun","version":"crun 1.21\ncommit"},
		"security":{"rootless":true,"seccompEnabled":true,"capabilities":"CAP_CHOWN,CAP_KILL"},"pasta":{"executable":"/usr/bin/pasta"}},
		"store":{"graphDriverName":"overlay","graphRoot":"/home/x/.local/share/containers/storage"},"version":{"APIVersion":"5.4.2","Version":"5.4.2"}}`))
	f.Add([]byte(`{"version":{"APIVersion":"99999999999999999999.1"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c := answering(http.StatusOK, body)
		var info Info
		var err error
		fuzz.Cheap(t, len(body), perByte, func() { info, err = c.Info(t.Context()) })
		if err != nil {
			fuzz.Line(t, err.Error(), maxError)
			return
		}
		must.False(t, strings.HasPrefix(info.APIVersion, "3."))
		for _, text := range []string{
			info.Version, info.APIVersion, info.CgroupVersion, info.CgroupManager, info.OCIRuntime, info.OCIRuntimePath, info.OCIRuntimeVersion,
			info.Capabilities, info.NetworkBackend, info.Pasta, info.Slirp4netns, info.StorageDriver, info.GraphRoot, info.RunRoot,
			info.DatabaseBackend, info.Arch, info.OS,
		} {
			fuzz.Line(t, text, maxText)
		}
		parseVersion(info.Version)
	})
}

func FuzzPull(f *testing.F) {
	f.Add([]byte(`{"stream":"Trying to pull docker.io/library/redis:7...\n"}` + "\n" + `{"stream":"Copying blob sha256:aa\n"}` + "\n\n" +
		`{"images":["` + sessionID + `"],"id":"` + sessionID + `"}` + "\n"))
	f.Add([]byte(`{"stream":"a"}` + "\n" + `{"error":"manifest unknown"}` + "\n" + `{"error":"also this"}`))
	f.Add([]byte(strings.Repeat(`{"error":"\u001b"}`+"\n", 2*maxTexts)))
	f.Fuzz(func(t *testing.T, body []byte) {
		var id string
		var err error
		fuzz.Cheap(t, len(body), perByte, func() {
			id, err = answering(http.StatusOK, body).Pull(t.Context(), PullRequest{Reference: "x"}, func(line string) { fuzz.Line(t, line, maxText) })
		})
		if err != nil {
			fuzz.Line(t, err.Error(), maxError)
			return
		}
		must.RegexMatch(t, podmanID, id)
	})
}

// FuzzAnswer gives an answer, good or bad, to whatever else is asked.
func FuzzAnswer(f *testing.F) {
	f.Add(http.StatusOK, []byte(`{"Id":"`+sessionID+`","Warnings":["a\nb"],"Running":true,"Pid":42,"ExitCode":7,"RepoTags":["x"],"Size":1,"Config":{"User":"1"}}`))
	f.Add(http.StatusOK, []byte("137\n"))
	f.Add(http.StatusNotFound, []byte(`{"cause":"no such container","message":"no container with name \"x\"\n\u001b[31m","response":404}`))
	f.Add(http.StatusInternalServerError, bytes.Repeat([]byte("\xff\x1b"), maxMessage))
	f.Add(http.StatusFound, []byte(`{"message":""}`))
	f.Add(http.StatusNotModified, []byte{})
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		c := answering(status, body)
		for _, call := range []func(context.Context) error{
			func(ctx context.Context) error {
				id, warnings, err := c.Create(ctx, &specgen.SpecGenerator{})
				must.Eq(t, err == nil, podmanID.MatchString(id))
				must.LessEq(t, maxTexts, len(warnings))
				for _, warning := range warnings {
					fuzz.Line(t, warning, maxText)
				}
				return err
			},
			func(ctx context.Context) error {
				code, err := c.Wait(ctx, "abc")
				must.GreaterEq(t, 0, code)
				return err
			},
			func(ctx context.Context) error {
				session, err := c.CreateExec(ctx, "abc", Exec{})
				must.True(t, err != nil || podmanID.MatchString(session.ID()))
				return err
			},
			func(ctx context.Context) error {
				_, err := (&ExecSession{client: c, id: sessionID}).Inspect(ctx)
				return err
			},
			func(ctx context.Context) error { _, err := c.ImageInspect(ctx, "x"); return err },
			func(ctx context.Context) error { return c.Start(ctx, "abc") },
			func(ctx context.Context) error { return c.Remove(ctx, "abc", true) },
		} {
			var err error
			fuzz.Cheap(t, len(body), perByte, func() { err = call(t.Context()) })
			if err != nil {
				fuzz.Line(t, err.Error(), maxError)
			}
			if apiErr := new(APIError); errors.As(err, &apiErr) {
				must.NotEq(t, http.StatusOK, apiErr.StatusCode)
				must.Eq(t, apiErr.StatusCode == http.StatusNotFound, isNotFound(err))
			}
		}
	})
}

// FuzzResponse is all that a podman sends, from the first byte of HTTP on.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"Id\":\"abc\"}"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n{\"Id\":\"abc\"}\r\n0\r\nX: y\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + frame(1, "out")))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 \x1b[31m\r\n\r\n{}"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: " + strings.Repeat("x", 2*maxError) + "\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 204 No Content\r\nContent-Length: 99999999999\r\n\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		c := newClient("host user x", time.Minute, func(context.Context) (net.Conn, error) {
			return sender{sends: bytes.NewReader(sent)}, nil
		})
		fuzz.Cheap(t, len(sent), perByte, func() {
			if _, err := c.Inspect(t.Context(), "abc"); err != nil {
				fuzz.Line(t, err.Error(), maxError)
			}
			stream, err := (&ExecSession{client: c, id: sessionID}).Start(t.Context(), nil)
			if err != nil {
				fuzz.Line(t, err.Error(), maxError)
				return
			}
			if err := stream.Copy(io.Discard, io.Discard); err != nil {
				fuzz.Line(t, err.Error(), maxError)
			}
			must.NoError(t, stream.Close())
		})
	})
}

// A command's output arrives whole in whatever pieces it is read, and nothing is added.
func FuzzExecFrames(f *testing.F) {
	f.Add([]byte(frame(1, "out")+frame(2, "err")+frame(1, "")), []byte("stdout"), []byte("stderr"))
	f.Add([]byte(frame(3, "x")), []byte{}, []byte("\x01\x00\x00\x00"))
	f.Add([]byte("\x01\x00\x00\x00\x00\x10\x00\x00x"), []byte("a"), []byte{})
	f.Add([]byte("\x02\x00\x00\x00\xff\xff\xff\xff"), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, sent, out, err []byte) {
		framed := func(stream byte, text []byte) []byte {
			header := binary.BigEndian.AppendUint32([]byte{stream, 0, 0, 0}, uint32(len(text)))
			return append(header, text...)
		}
		sent = bytes.Join([][]byte{framed(1, out), framed(2, err), sent}, nil)
		var got, bytewise [2]bytes.Buffer
		var failed error
		fuzz.Cheap(t, len(sent), 16, func() { failed = demultiplex(bytes.NewReader(sent), &got[0], &got[1]) })
		again := demultiplex(iotest.OneByteReader(bytes.NewReader(sent)), &bytewise[0], &bytewise[1])
		must.Eq(t, failed == nil, again == nil)
		must.LessEq(t, len(sent), got[0].Len()+got[1].Len())
		for i, whole := range [][]byte{out, err} {
			must.True(t, bytes.HasPrefix(got[i].Bytes(), whole))
			must.True(t, bytes.Equal(got[i].Bytes(), bytewise[i].Bytes()))
		}
		if failed != nil {
			fuzz.Line(t, failed.Error(), maxError)
		}
	})
}
