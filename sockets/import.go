package sockets

import (
	"context"
	"errors"
	"io"
)

// ImportImage is not written yet.
func (c *Client) ImportImage(context.Context, string, io.Reader, ...string) (string, error) {
	return "", errors.New("not written yet")
}

// RemoveImage is not written yet.
func (c *Client) RemoveImage(context.Context, string) error { return errors.New("not written yet") }
