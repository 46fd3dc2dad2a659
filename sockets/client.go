package sockets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// Bounds for what a podman service, and thereby its host user, may make us hold in memory.
const (
	maxAnswer  = 4 << 20  // bytes of an answer
	maxListed  = 10_000   // elements of a list: a byte of JSON can become dozens in memory
	maxBody    = 16 << 20 // bytes of a stream
	maxMessage = 4 << 10  // bytes of an error message
	maxLine    = 1 << 20  // bytes of a line of a stream
	maxTexts   = 8        // warnings or failures of one request
	maxPath    = 4 << 10  // bytes of a path (PATH_MAX)
)

// apiVersion is the version of the libpod API that requests ask for: the oldest that every podman from 4.0 to 5.8
// serves. podman 5.1 and later give it answers in the form of version 4.
const apiVersion = "v4.0.0"

var (
	// ErrNotFound is wrapped by errors about a container, image or network that the endpoint does not have.
	ErrNotFound = errors.New("not found")
	// ErrTooLarge is wrapped by errors about an answer past the size limit.
	ErrTooLarge = errors.New("answer too large")
)

// APIError is podman's own answer to a request that failed. It is ErrNotFound when StatusCode is 404.
type APIError struct {
	StatusCode int
	Message    string // what failed, for people
	Cause      string // root cause, for programs
}

func (e *APIError) Error() string { return fmt.Sprintf("%s (HTTP status %d)", e.Message, e.StatusCode) }

// Is implements errors.Is for ErrNotFound.
func (e *APIError) Is(target error) bool {
	return target == ErrNotFound && e.StatusCode == http.StatusNotFound
}

// Client speaks podman's API at one endpoint. Calls that podman answers at once end after the registry's timeout;
// create, start, pull, wait and remove are bounded by their context only.
//
// It uses podman's request types but not the functions of its bindings: those send each request up to three times,
// also a create or a kill, wait without regard for the context in between, read answers of any size, and send the
// registry credentials of this process, root's, along with every pull.
type Client struct {
	owner   string // for messages
	http    *http.Client
	timeout time.Duration
}

func newClient(owner string, timeout time.Duration, dial func(context.Context) (net.Conn, error)) *Client {
	return &Client{
		owner:   owner,
		timeout: timeout,
		http: &http.Client{
			Transport: &http.Transport{
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
				// A connection for each request: a podman service ends when it has had none for 5 s, and a request
				// never meets one that the service is just closing, which could not be told from a failed request.
				DisableKeepAlives:      true,
				DisableCompression:     true,
				MaxResponseHeaderBytes: 64 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// request is one call of the API.
type request struct {
	what   string // for messages: "inspecting container x"
	method string
	path   []string // elements, unescaped
	query  url.Values
	header http.Header
	body   any       // sent as JSON unless nil
	stream io.Reader // sent as it is unless nil
}

// send sends r once and returns the answer of a request that succeeded. Its body is bounded by limit and the
// caller's to close.
func (c *Client) send(ctx context.Context, r request, limit int64) (io.ReadCloser, error) {
	body, err := c.try(ctx, r, limit)
	if err != nil {
		return nil, c.fail(r, err)
	}
	return body, nil
}

func (c *Client) try(ctx context.Context, r request, limit int64) (io.ReadCloser, error) {
	resp, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	return &boundedBody{ReadCloser: resp.Body, left: limit}, nil
}

// do sends r once and returns the answer of a request that succeeded.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: "podman", RawQuery: r.query.Encode()}
	for _, element := range append([]string{apiVersion, "libpod"}, r.path...) {
		u.Path += "/" + element
		u.RawPath += "/" + url.PathEscape(element)
	}
	content := r.stream
	if r.body != nil {
		encoded, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), content)
	if err != nil {
		return nil, err
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		// url.Error repeats method and URL; what failed is said by request.what.
		if inner := new(url.Error); errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols && r.header.Get("Upgrade") == "":
		// What follows is the bare connection, on which ctx has no hold: nothing must be read from it.
		return nil, errors.Join(&APIError{StatusCode: resp.StatusCode, Message: "an answer that nobody asked for"}, resp.Body.Close())
	case resp.StatusCode/100 != 2 && resp.StatusCode != http.StatusSwitchingProtocols:
		return nil, errors.Join(apiError(resp), resp.Body.Close())
	}
	return resp, nil
}

func (c *Client) fail(r request, err error) error {
	return fmt.Errorf("podman of %s: %s: %w", c.owner, r.what, quoted{err})
}

// quoted is an error whose text may repeat as much as a podman has sent.
type quoted struct{ error }

func (q quoted) Error() string { return printable(q.error.Error()) }
func (q quoted) Unwrap() error { return q.error }

// call sends r and decodes the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, r request, out any) error {
	body, err := c.send(ctx, r, maxAnswer)
	if err != nil {
		return err
	}
	if out == nil {
		return body.Close()
	}
	text, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err == nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		return c.fail(r, fmt.Errorf("reading the answer: %w", err))
	}
	return nil
}

// quick is call for what podman answers at once.
func (c *Client) quick(ctx context.Context, r request, out any) error {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	err := c.call(ctx, r, out)
	if err != nil && ctx.Err() != nil {
		return c.fail(r, context.Cause(ctx))
	}
	return err
}

// limit is the time that podman has for what it answers at once.
func (c *Client) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no answer within %s (plugin option client_http_timeout): %w", c.timeout, context.DeadlineExceeded))
}

func apiError(resp *http.Response) error {
	e := &APIError{StatusCode: resp.StatusCode}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage))
	var model struct{ Cause, Message string }
	if err != nil || json.Unmarshal(body, &model) != nil || model.Message == "" {
		model.Message = string(body)
	}
	e.Message, e.Cause = printable(model.Message), printable(model.Cause)
	if e.Message == "" {
		e.Message = http.StatusText(resp.StatusCode)
	}
	return e
}

// printable keeps a host user's text from forging log lines or terminal sequences.
func printable(s string) string {
	end := ""
	if len(s) > maxMessage {
		s, end = s[:maxMessage], "…"
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))) + end // what is not UTF-8 would become three times as long
}

// list is an answer that is a list, of no more than maxListed elements.
type list[T any] []T

// UnmarshalJSON implements json.Unmarshaler. It stops before what is too much is in memory.
func (l *list[T]) UnmarshalJSON(text []byte) error {
	*l = nil
	decoder := json.NewDecoder(bytes.NewReader(text))
	switch start, err := decoder.Token(); {
	case err != nil:
		return err
	case start == nil: // null
		return nil
	case start != json.Delim('['):
		return errors.New("it is no list")
	}
	for decoder.More() {
		if len(*l) == maxListed {
			return fmt.Errorf("%w: a list of more than %d", ErrTooLarge, maxListed)
		}
		var one T
		if err := decoder.Decode(&one); err != nil {
			return err
		}
		*l = append(*l, one)
	}
	return nil
}

// boundedBody fails with ErrTooLarge once more than left bytes were read.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}
