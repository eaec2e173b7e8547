CREATE TABLE orders (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  customer text NOT NULL,
  item     text NOT NULL,
  quantity int NOT NULL CHECK (quantity > 0),
  state    text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'paid', 'stuck', 'shipped')),
  placed   timestamptz NOT NULL
);

CREATE TABLE outbox (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id bigint NOT NULL REFERENCES orders,
  topic    text NOT NULL,
  sent     timestamptz
);

INSERT INTO orders (customer, item, quantity, state, placed)
  SELECT (ARRAY['Aino', 'Bram', 'Chiara', 'Dara', 'Elif', 'Femi'])[1 + n % 6],
         (ARRAY['lantern', 'rope', 'compass', 'chart'])[1 + n % 4],
         1 + n % 5,
         CASE WHEN n % 37 = 0 THEN 'stuck' WHEN n % 5 = 0 THEN 'new' WHEN n % 3 = 0 THEN 'paid' ELSE 'shipped' END,
         timestamptz '2026-01-01 08:00:00+00' + n * interval '17 minutes'
  FROM generate_series(1, 500) AS n;

INSERT INTO outbox (order_id, topic, sent)
  SELECT id, 'order.' || state, CASE WHEN state = 'stuck' THEN NULL ELSE placed + interval '1 minute' END
  FROM orders;

REVOKE ALL ON DATABASE orders FROM PUBLIC;

GRANT CONNECT, TEMPORARY ON DATABASE orders TO reader, writer;

GRANT SELECT ON orders, outbox TO reader;

GRANT SELECT, INSERT, UPDATE, DELETE ON orders, outbox TO writer;

