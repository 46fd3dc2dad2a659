package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// qmp is a connection to QEMU's monitor (QEMU Machine Protocol,
// https://www.qemu.org/docs/master/interop/qmp-spec.html).
type qmp struct {
	conn net.Conn
	in   *json.Decoder
}

// qmpMessage is a greeting, an answer or an event.
type qmpMessage struct {
	Event  string
	Return json.RawMessage
	Error  *struct{ Class, Desc string }
}

// qmpTimeout bounds commands whose context has no deadline of its own.
const qmpTimeout = 30 * time.Second

// newQMP reads the greeting and leaves the negotiation mode.
func newQMP(ctx context.Context, conn net.Conn) (*qmp, error) {
	q := &qmp{conn: conn, in: json.NewDecoder(conn)}
	q.deadline(ctx)
	var greeting struct{ QMP json.RawMessage }
	if err := q.in.Decode(&greeting); err != nil {
		return nil, fmt.Errorf("QEMU's monitor does not greet: %w", err)
	}
	return q, q.execute(ctx, "qmp_capabilities", nil, nil)
}

func (q *qmp) deadline(ctx context.Context) {
	end := time.Now().Add(qmpTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	// It fails only on a closed connection, and then so does what follows.
	_ = q.conn.SetDeadline(end)
}

// execute sends a command and decodes its return value into result, unless nil.
func (q *qmp) execute(ctx context.Context, command string, arguments, result any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.deadline(ctx)
	request, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return err
	}
	if _, err := q.conn.Write(append(request, '\n')); err != nil {
		return fmt.Errorf("QEMU %s: %w", command, err)
	}
	for {
		var m qmpMessage
		if err := q.in.Decode(&m); err != nil {
			return fmt.Errorf("QEMU %s: %w", command, err)
		}
		switch {
		case m.Event != "":
		case m.Error != nil:
			return fmt.Errorf("QEMU %s: %s", command, m.Error.Desc)
		case result != nil:
			return json.Unmarshal(m.Return, result)
		default:
			return nil
		}
	}
}

// awaitMigration waits until the state has been written or read.
func (q *qmp) awaitMigration(ctx context.Context) error {
	for {
		var info struct {
			Status    string
			ErrorDesc string `json:"error-desc"`
		}
		if err := q.execute(ctx, "query-migrate", nil, &info); err != nil {
			return err
		}
		switch info.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("QEMU's migration %s: %s", info.Status, info.ErrorDesc)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
