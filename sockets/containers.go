package sockets

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containers/podman/v4/pkg/specgen"
)

// Container is a container as podman describes it, as far as somebody reads it: what nobody does takes no memory. All of it
// is the host user's word: a pid, a path or a state counts only after it was checked.
type Container struct {
	ID              string `json:"Id"`
	Name            string
	ImageName       string
	State           ContainerState
	Config          ContainerConfig
	HostConfig      HostConfig
	NetworkSettings NetworkSettings
}

// ContainerState is the state of a container's last run. Times are zero when there was none.
type ContainerState struct {
	Running    bool
	Pid        int // on the host; 0 when not running
	ConmonPid  int
	CgroupPath string
	ExitCode   int32
	OOMKilled  bool
	StartedAt  time.Time
	FinishedAt time.Time
	Error      string
}

// Ended tells whether podman has recorded the end of the last run. It keeps the time of an earlier end while a new run
// is on.
func (s ContainerState) Ended() bool { return !s.Running && !s.FinishedAt.IsZero() }

// ContainerConfig is what runs in a container.
type ContainerConfig struct {
	Labels     map[string]string
	StopSignal StringOrNumber
}

// HostConfig is how a container is separated from its host.
type HostConfig struct {
	Privileged bool
	LogConfig  struct {
		Type string
		Path string
	}
}

// NetworkSettings are a container's addresses. That is empty when it has none.
type NetworkSettings struct {
	IPAddress string
}

// StringOrNumber is a string, which podman before version 5 gives as a number.
type StringOrNumber string

// UnmarshalJSON implements json.Unmarshaler.
func (s *StringOrNumber) UnmarshalJSON(data []byte) error {
	var number json.Number
	if len(data) > 0 && data[0] != '"' && json.Unmarshal(data, &number) == nil {
		*s = StringOrNumber(number)
		return nil
	}
	return json.Unmarshal(data, (*string)(s))
}

// ContainerSummary is a line of the list of containers.
type ContainerSummary struct {
	ID      string `json:"Id"`
	Names   []string
	Labels  map[string]string
	State   string
	Created time.Time
}

// Create creates a container and returns its ID and podman's warnings.
func (c *Client) Create(ctx context.Context, spec *specgen.SpecGenerator) (id string, warnings []string, err error) {
	var answer struct {
		ID       string `json:"Id"`
		Warnings []string
	}
	r := request{
		what: fmt.Sprintf("creating container %q", spec.Name), method: http.MethodPost, path: []string{"containers", "create"}, body: spec,
	}
	if err := c.call(ctx, r, &answer); err != nil {
		return "", nil, err
	}
	if !isID(answer.ID) {
		return "", nil, c.fail(r, errors.New("the answer has no ID of a container"))
	}
	answer.Warnings = answer.Warnings[:min(len(answer.Warnings), maxTexts)]
	for i, warning := range answer.Warnings {
		answer.Warnings[i] = printable(warning)
	}
	return answer.ID, answer.Warnings, nil
}

// Start starts a created or stopped container. One that runs already is no error.
func (c *Client) Start(ctx context.Context, idOrName string) error {
	// 304 Not Modified: it runs already.
	err := c.call(ctx, containerRequest("starting", http.MethodPost, idOrName, "start"), nil)
	if apiErr := new(APIError); errors.As(err, &apiErr) && apiErr.StatusCode == http.StatusNotModified {
		return nil
	}
	return err
}

// Inspect describes a container. The error wraps ErrNotFound when there is none.
func (c *Client) Inspect(ctx context.Context, idOrName string) (*Container, error) {
	var container Container
	r := containerRequest("inspecting", http.MethodGet, idOrName, "json")
	if err := c.quick(ctx, r, &container); err != nil {
		return nil, err
	}
	if err := container.check(idOrName); err != nil {
		return nil, c.fail(r, err)
	}
	return &container, nil
}

// check refuses what no podman answers, before it gets into messages and into what Nomad keeps.
func (c *Container) check(idOrName string) error {
	if c.ID != idOrName && c.Name != idOrName {
		return errors.New("the answer is about another container")
	}
	for name, value := range map[string]string{
		"Id": c.ID, "CgroupPath": c.State.CgroupPath, "LogConfig.Path": c.HostConfig.LogConfig.Path, "StopSignal": string(c.Config.StopSignal),
		"IPAddress": c.NetworkSettings.IPAddress,
	} {
		if len(value) > maxPath {
			return fmt.Errorf("the answer's %s is too long (%d bytes)", name, len(value))
		}
	}
	return nil
}

// Wait waits until the container does not run and returns the exit code that podman has recorded. podman says 0 also
// about a run whose end it never saw: check with Inspect that this run has a finish time.
func (c *Client) Wait(ctx context.Context, idOrName string) (int32, error) {
	r := containerRequest("waiting for", http.MethodPost, idOrName, "wait")
	body, err := c.send(ctx, r, maxMessage)
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil {
		return 0, c.fail(r, fmt.Errorf("reading the answer: %w", err))
	}
	code, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return 0, c.fail(r, fmt.Errorf("reading the answer: %w", err))
	}
	if code < 0 {
		return 0, c.fail(r, errors.New("podman has no exit code of it"))
	}
	return int32(code), nil
}

// Kill sends a signal, by name or number, to the container's first process. The error is an APIError with status
// 409 when the container does not run.
func (c *Client) Kill(ctx context.Context, idOrName, signal string) error {
	r := containerRequest("sending "+signal+" to", http.MethodPost, idOrName, "kill")
	r.query = url.Values{"signal": {signal}}
	return c.quick(ctx, r, nil)
}

// Remove removes a container with its anonymous volumes. With force a running one is killed first. That there is none
// is no error.
func (c *Client) Remove(ctx context.Context, idOrName string, force bool) error {
	r := containerRequest("removing", http.MethodDelete, idOrName)
	r.query = url.Values{"volumes": {"true"}}
	if force {
		// timeout=0: SIGKILL at once. Who wants a gentle end sends a signal first.
		r.query.Set("force", "true")
		r.query.Set("timeout", "0")
	}
	if err := c.call(ctx, r, nil); err != nil && !isNotFound(err) {
		return err
	}
	return nil
}

// List lists the endpoint's containers, in any state, that have all of these labels.
func (c *Client) List(ctx context.Context, labels map[string]string) ([]ContainerSummary, error) {
	query := url.Values{"all": {"true"}}
	if len(labels) > 0 {
		var filter struct {
			Label []string `json:"label"`
		}
		for name, value := range labels {
			filter.Label = append(filter.Label, name+"="+value)
		}
		encoded, err := json.Marshal(filter)
		if err != nil {
			return nil, err
		}
		query.Set("filters", string(encoded))
	}
	var containers list[ContainerSummary]
	r := request{what: "listing containers", method: http.MethodGet, path: []string{"containers", "json"}, query: query}
	if err := c.quick(ctx, r, &containers); err != nil {
		return nil, err
	}
	return containers, nil
}

func containerRequest(doing, method, idOrName string, verb ...string) request {
	return request{
		what:   fmt.Sprintf("%s container %q", doing, idOrName),
		method: method,
		path:   append([]string{"containers", idOrName}, verb...),
	}
}

// isID tells the IDs of containers, images and commands, 32 bytes in hexadecimal, from what else an answer may hold.
func isID(text string) bool {
	id, err := hex.DecodeString(text)
	return err == nil && len(id) == 32 && text == strings.ToLower(text)
}

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }
