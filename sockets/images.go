package sockets

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Image is an image in the endpoint's storage.
type Image struct {
	ID     string `json:"Id"`
	Names  []string
	Size   int64 // bytes
	Config ImageConfig
}

// ImageConfig is what an image says about how it is run (OCI image specification, config).
type ImageConfig struct {
	Entrypoint []string
	Cmd        []string
	Env        []string
	User       string
	StopSignal string
	WorkingDir string
}

// ImageInspect looks for an image in the endpoint's storage. The error wraps ErrNotFound when it is not there.
func (c *Client) ImageInspect(ctx context.Context, ref string) (*Image, error) {
	var image struct {
		Image
		RepoTags []string
	}
	r := request{what: fmt.Sprintf("inspecting image %q", ref), method: http.MethodGet, path: []string{"images", ref, "json"}}
	if err := c.quick(ctx, r, &image); err != nil {
		return nil, err
	}
	image.Names = image.RepoTags
	return &image.Image, nil
}

// Pull policies of podman-pull(1).
const (
	PullMissing = "missing"
	PullAlways  = "always"
)

// PullRequest says what to pull and how.
type PullRequest struct {
	Reference string // of a registry: docker://… or a name that the host user's registries.conf completes
	Policy    string // PullMissing or PullAlways
	Auth      *Auth  // nil: the host user's own credentials
	TLSVerify *bool  // nil: the host user's registries.conf decides
	Arch      string
	OS        string
	Variant   string
}

// Auth holds credentials for a registry. They are the job's: nothing else is ever sent to an endpoint.
type Auth struct {
	Username      string
	Password      string
	ServerAddress string // registry that they are for; empty: the one that the reference names
}

// header is podman's X-Registry-Auth. With a registry it is a map, so that podman tries the credentials nowhere else.
func (a *Auth) header() (http.Header, error) {
	if a == nil {
		return nil, nil
	}
	type config struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	var value any = config{a.Username, a.Password}
	if a.ServerAddress != "" {
		value = map[string]config{a.ServerAddress: {a.Username, a.Password}}
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return http.Header{"X-Registry-Auth": {base64.URLEncoding.EncodeToString(encoded)}}, nil
}

// Pull pulls an image and returns its ID. progress, unless nil, gets each line that podman writes meanwhile.
func (c *Client) Pull(ctx context.Context, p PullRequest, progress func(line string)) (string, error) {
	query := url.Values{"reference": {p.Reference}, "policy": {p.Policy}, "quiet": {"false"}}
	for name, value := range map[string]string{"Arch": p.Arch, "OS": p.OS, "Variant": p.Variant} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if p.TLSVerify != nil {
		query.Set("tlsVerify", strconv.FormatBool(*p.TLSVerify))
	}
	r := request{
		what: fmt.Sprintf("pulling image %q", p.Reference), method: http.MethodPost, path: []string{"images", "pull"}, query: query,
	}
	var err error
	if r.header, err = p.Auth.header(); err != nil {
		return "", c.fail(r, err)
	}
	body, err := c.send(ctx, r, maxBody)
	if err != nil {
		return "", err
	}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	id, err := readPull(lines, progress)
	if err = errors.Join(err, body.Close()); err != nil {
		return "", c.fail(r, err)
	}
	return id, nil
}

// ImportImage makes an image of a root file system, a tar archive, and returns its ID. name is what the image is called
// then, and changes are instructions of a Containerfile, such as CMD (podman-import(1)).
func (c *Client) ImportImage(ctx context.Context, name string, rootfs io.Reader, changes ...string) (string, error) {
	r := request{
		what: fmt.Sprintf("importing image %q", name), method: http.MethodPost, path: []string{"images", "import"},
		query:  url.Values{"reference": {name}, "changes": changes},
		header: http.Header{"Content-Type": {"application/x-tar"}}, stream: rootfs,
	}
	if err := c.call(ctx, r, nil); err != nil {
		return "", err
	}
	// The answer's ID is the name in some versions of podman.
	image, err := c.ImageInspect(ctx, name)
	if err != nil {
		return "", err
	}
	if !isID(image.ID) {
		return "", c.fail(r, errors.New("the answer has no ID of an image"))
	}
	return image.ID, nil
}

// RemoveImage removes an image with all its names, and containers that are made of it. That there is none is no error.
func (c *Client) RemoveImage(ctx context.Context, id string) error {
	r := request{
		what: fmt.Sprintf("removing image %q", id), method: http.MethodDelete, path: []string{"images", id},
		query: url.Values{"force": {"true"}},
	}
	if err := c.call(ctx, r, nil); err != nil && !isNotFound(err) {
		return err
	}
	return nil
}

// readPull reads the stream of JSON reports that podman answers a pull with. It is 200 OK also when the pull fails.
func readPull(lines *bufio.Scanner, progress func(string)) (string, error) {
	var id string
	var failures []string
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var report struct {
			Stream string   `json:"stream"`
			Error  string   `json:"error"`
			Images []string `json:"images"`
			ID     string   `json:"id"`
		}
		if err := json.Unmarshal(lines.Bytes(), &report); err != nil {
			if lines.Err() != nil {
				break // the line is cut short by that
			}
			return "", fmt.Errorf("reading the answer: %w", err)
		}
		if line := printable(report.Stream); line != "" && progress != nil {
			progress(line)
		}
		if failure := printable(report.Error); failure != "" && len(failures) < maxTexts {
			failures = append(failures, failure)
		}
		if report.ID != "" {
			id = report.ID
		} else if len(report.Images) > 0 {
			id = report.Images[len(report.Images)-1]
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return "", ErrTooLarge
	case err != nil:
		return "", err
	case len(failures) > 0:
		return "", errors.New(strings.Join(failures, "; "))
	case !isID(id):
		return "", errors.New("the answer ended without an image; see the podman service's log (journalctl of the host user)")
	}
	return id, nil
}
