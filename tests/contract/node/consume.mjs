// A consumer that shares no code and no language with Leads: binds a queue of its own and prints the first message.
//   node consume.mjs AMQP_URL EXCHANGE ROUTING_KEY
// Prints "bound" once a message cannot be missed any more, then one line of JSON: body, properties and fields.
import amqp from "amqplib";

const [url, exchange, routingKey] = process.argv.slice(2);
const connection = await amqp.connect(url);
const channel = await connection.createChannel();
await channel.checkExchange(exchange);
const { queue } = await channel.assertQueue("", { exclusive: true });
await channel.bindQueue(queue, exchange, routingKey);
const received = new Promise((resolve) => channel.consume(queue, resolve));
console.log("bound");

const message = await received;
channel.ack(message);
const { content, properties, fields } = message;
console.log(JSON.stringify({ body: content.toString("utf8"), properties, fields }));
await connection.close();
